// The `openai` package of npm.
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import {
  CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, TEXTS, URL, WEATHER, collect, serve, weather,
} from './driven.mjs';

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const Person = z.object({ name: z.string(), age: z.number().int() });
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const described = { name: 'weather', description: 'The weather in a city.', parameters };
const user = (content) => ({ role: 'user', content });
const complete = (model, messages, fields) =>
  client.chat.completions.create({ model, messages, temperature: 0, max_tokens: LIMIT, ...fields });

async function chat(model) {
  return { text: (await complete(model, [user(CAPITAL)])).choices[0].message.content };
}

async function stream(model) {
  const fields = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await complete(model, [user(CAPITAL)], fields));
  const pieces = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
  return { pieces, tokens: chunks.at(-1).usage.completion_tokens };
}

async function developer(model) {
  const messages = [{ role: 'developer', content: SYSTEM }, user(CAPITAL)];
  return { text: (await complete(model, messages)).choices[0].message.content };
}

async function tools(model) {
  const messages = [user(WEATHER)];
  const tool = { type: 'function', function: described };
  const first = await complete(model, messages, {
    tools: [tool], tool_choice: 'required', parallel_tool_calls: false,
  });
  const { message } = first.choices[0];
  messages.push(message);
  const calls = [];
  for (const call of message.tool_calls) {
    calls.push(JSON.parse(call.function.arguments));
    messages.push({ role: 'tool', tool_call_id: call.id, content: weather(calls.at(-1)) });
  }
  const last = await complete(model, messages, { tools: [tool], tool_choice: 'none' });
  return { calls, text: last.choices[0].message.content };
}

// The loop of the package itself; it lets the model choose.
async function tools_loop(model) {
  const calls = [];
  const call = (given) => {
    calls.push(given);
    return weather(given);
  };
  const tool = { ...described, function: call, parse: JSON.parse };
  const runner = client.chat.completions.runTools({
    model,
    messages: [user(WEATHER)],
    tools: [{ type: 'function', function: tool }],
  });
  return { calls, text: await runner.finalContent() };
}

async function schema(model) {
  const completion = await client.chat.completions.parse({
    model,
    messages: [user(PERSON)],
    temperature: 0,
    response_format: zodResponseFormat(Person, 'person'),
  });
  return { object: completion.choices[0].message.parsed };
}

const respond = { temperature: 0, max_output_tokens: LIMIT };

async function responses(model) {
  const response = await client.responses.create({
    model, instructions: SYSTEM, input: CAPITAL, ...respond,
  });
  return { text: response.output_text };
}

async function responses_stream(model) {
  const events = client.responses.stream({ model, input: CAPITAL, ...respond });
  const deltas = (await collect(events)).filter((e) => e.type === 'response.output_text.delta');
  const { usage } = await events.finalResponse();
  return { pieces: deltas.map((event) => event.delta), tokens: usage.output_tokens };
}

async function responses_tools(model) {
  const fields = { model, tools: [{ type: 'function', strict: true, ...described }], ...respond };
  const input = [user(WEATHER)];
  const first = await client.responses.create({
    input, tool_choice: 'required', parallel_tool_calls: false, ...fields,
  });
  const calls = [];
  for (const item of first.output) {
    input.push(item);
    if (item.type === 'function_call') {
      calls.push(JSON.parse(item.arguments));
      const output = weather(calls.at(-1));
      input.push({ type: 'function_call_output', call_id: item.call_id, output });
    }
  }
  const last = await client.responses.create({ input, tool_choice: 'none', ...fields });
  return { calls, text: last.output_text };
}

async function responses_schema(model) {
  const response = await client.responses.parse({
    model, input: PERSON, temperature: 0, text: { format: zodTextFormat(Person, 'person') },
  });
  return { object: response.output_parsed };
}

async function embeddings(model) {
  const { data } = await client.embeddings.create({ model, input: TEXTS });
  return { vectors: data.map((item) => item.embedding) };
}

async function switching(model, other) {
  const messages = [user(CAPITAL)];
  const first = await complete(model, messages);
  messages.push(first.choices[0].message, user(ITALY));
  const second = await complete(other, messages);
  return {
    texts: [first, second].map((completion) => completion.choices[0].message.content),
    models: [first.model, second.model],
  };
}

await serve({
  chat,
  cold: chat,
  stream,
  cold_stream: stream,
  developer,
  tools,
  tools_loop,
  schema,
  responses,
  responses_stream,
  responses_tools,
  responses_schema,
  cold_responses: responses,
  embeddings,
  switch: switching,
});
