// The `@anthropic-ai/sdk` package.
import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';
import {
  BASE, CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, WEATHER, serve, weather,
} from './driven.mjs';

const client = new Anthropic({ baseURL: BASE, apiKey: KEY });
const tool = {
  name: 'weather',
  description: 'The weather in a city.',
  input_schema: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
  },
};
const Person = z.object({ name: z.string(), age: z.number().int() });
const user = (content) => ({ role: 'user', content });
const create = (model, messages, fields) =>
  client.messages.create({ model, messages, max_tokens: LIMIT, ...fields });
const textOf = ({ content }) => content.map((block) => block.text ?? '').join('');

async function messages(model) {
  return { text: textOf(await create(model, [user(CAPITAL)], { system: SYSTEM })) };
}

async function messages_stream(model) {
  const stream = client.messages.stream({ model, messages: [user(CAPITAL)], max_tokens: LIMIT });
  const pieces = [];
  stream.on('text', (piece) => pieces.push(piece));
  const { usage } = await stream.finalMessage();
  return { pieces, tokens: usage.output_tokens };
}

async function messages_tools(model) {
  const turn = [user(WEATHER)];
  const once = { type: 'any', disable_parallel_tool_use: true };
  const first = await create(model, turn, { tools: [tool], tool_choice: once });
  const used = first.content.filter((block) => block.type === 'tool_use');
  turn.push({ role: 'assistant', content: first.content });
  turn.push(user(used.map(({ id, input }) => (
    { type: 'tool_result', tool_use_id: id, content: weather(input) }
  ))));
  const last = await create(model, turn, { tools: [tool], tool_choice: { type: 'none' } });
  return { calls: used.map((use) => use.input), text: textOf(last) };
}

async function messages_schema(model) {
  const message = await client.messages.parse({
    model,
    messages: [user(PERSON)],
    max_tokens: LIMIT,
    output_config: { format: zodOutputFormat(Person) },
  });
  return { object: message.parsed_output };
}

async function count_tokens(model) {
  const asked = { model, system: SYSTEM, messages: [user(CAPITAL)] };
  const counted = await client.messages.countTokens(asked);
  const sent = await client.messages.create({ ...asked, max_tokens: 4 });
  return { tokens: counted.input_tokens, sent: sent.usage.input_tokens };
}

async function switching(model, other) {
  const turn = [user(CAPITAL)];
  const first = await create(model, turn);
  turn.push({ role: 'assistant', content: first.content }, user(ITALY));
  const second = await create(other, turn);
  return { texts: [textOf(first), textOf(second)], models: [first.model, second.model] };
}

await serve({
  messages,
  cold: messages,
  messages_stream,
  messages_tools,
  messages_schema,
  count_tokens,
  switch: switching,
});
