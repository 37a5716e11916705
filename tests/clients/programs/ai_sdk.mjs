// Vercel's AI SDK: `ai` over `@ai-sdk/openai-compatible`.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, embedMany, generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import {
  CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, TEXTS, URL, WEATHER, collect, serve,
  weather as weatherIn,
} from './driven.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false;
const options = { name: 'llm-serve', baseURL: URL, apiKey: KEY, includeUsage: true };
const provider = createOpenAICompatible(options);
const structured = createOpenAICompatible({ ...options, supportsStructuredOutputs: true });
const Person = z.object({ name: z.string(), age: z.number().int() });
const settings = { temperature: 0, maxOutputTokens: LIMIT };

async function chat(model) {
  const asked = { model: provider(model), system: SYSTEM, prompt: CAPITAL, ...settings };
  return { text: (await generateText(asked)).text };
}

async function stream(model) {
  const result = streamText({ model: provider(model), prompt: CAPITAL, ...settings });
  const pieces = await collect(result.textStream);
  return { pieces, tokens: (await result.usage).outputTokens };
}

function weatherTool(calls) {
  return tool({
    description: 'The weather in a city.',
    inputSchema: z.object({ city: z.string() }),
    execute: async (given) => {
      calls.push(given);
      return weatherIn(given);
    },
  });
}

async function tools(model) {
  const calls = [];
  const result = await generateText({
    model: provider(model),
    prompt: WEATHER,
    tools: { weather: weatherTool(calls) },
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({
      toolChoice: stepNumber === 0 ? { type: 'tool', toolName: 'weather' } : 'none',
    }),
    ...settings,
  });
  return { calls, text: result.text };
}

async function tools_stream(model) {
  const calls = [];
  const result = streamText({
    model: provider(model),
    prompt: WEATHER,
    tools: { weather: weatherTool(calls) },
    toolChoice: { type: 'tool', toolName: 'weather' },
    ...settings,
  });
  const parts = await collect(result.fullStream);
  const deltas = parts.filter((part) => part.type === 'tool-input-delta');
  return { calls, pieces: deltas.map((part) => part.delta) };
}

// As the documentation shows it: the model chooses, and the loop goes on by itself.
async function tools_loop(model) {
  const calls = [];
  const result = await generateText({
    model: provider(model),
    prompt: WEATHER,
    tools: { weather: weatherTool(calls) },
    stopWhen: stepCountIs(5),
  });
  return { calls, text: result.text };
}

async function schema(model) {
  const { output } = await generateText({
    model: structured(model),
    output: Output.object({ schema: Person }),
    prompt: PERSON,
    ...settings,
  });
  return { object: output };
}

// The older way, which is in many programs.
async function schema_object(model) {
  const asked = { model: structured(model), schema: Person, prompt: PERSON, ...settings };
  return { object: (await generateObject(asked)).object };
}

async function embeddings(model) {
  const embedder = provider.textEmbeddingModel(model);
  return { vectors: (await embedMany({ model: embedder, values: TEXTS })).embeddings };
}

async function switching(model, other) {
  const messages = [{ role: 'user', content: CAPITAL }];
  const first = await generateText({ model: provider(model), messages, ...settings });
  messages.push(...first.response.messages, { role: 'user', content: ITALY });
  const second = await generateText({ model: provider(other), messages, ...settings });
  return {
    texts: [first.text, second.text],
    models: [first.response.modelId, second.response.modelId],
  };
}

await serve({
  chat,
  cold: chat,
  stream,
  cold_stream: stream,
  tools,
  tools_stream,
  tools_loop,
  schema,
  schema_object,
  embeddings,
  switch: switching,
});
