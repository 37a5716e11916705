// The loop of every JavaScript program here, as driven.py has it for Python.
import { createInterface } from 'node:readline';

export const BASE = process.env.LLM_SERVE_URL;
export const URL = `${BASE}/v1`;
export const KEY = 'not-required';

export const CAPITAL = 'What is the capital of France?';
export const ITALY = 'And the capital of Italy?';
export const PERSON = 'Ada is 36 years old. Who is it, and how old?';
export const WEATHER = 'What is the weather in Paris?';
export const SYSTEM = 'You are a helpful assistant.';
// Tokens; driven.py says why so many.
export const LIMIT = 256;
export const TEXTS = ['The cat sat on the mat.', 'A dog sleeps in the sun.'];

// What the tool answers.
export const weather = ({ city }) => `It is sunny in ${city}, 21 degrees.`;

export async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

// Answers {feature, model, other} with what the feature returns, or with its error.
export async function serve(features) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { feature, model, other } = JSON.parse(line);
    let said;
    try {
      said = { answer: await features[feature](model, other) };
    } catch (error) {
      console.error(error);
      said = { error: `${error.name}: ${error.message}` };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}
