// openai for Node: chat, and a text of responses.
import OpenAI from "openai";
import * as checks from "./checks.mjs";

const client = new OpenAI({ baseURL: `${checks.url}/v1`, apiKey: checks.key, maxRetries: 0 });
const auto = { model: "auto", temperature: 0, max_tokens: 60 };
const user = (content) => [{ role: "user", content }];
const chat = async (content, more = {}) =>
  (await client.chat.completions.create({ ...auto, messages: user(content), ...more })).choices[0].message;

await checks.run({
  text: async () => {
    checks.expectWord((await chat(checks.textQuestion)).content, "Paris");
    const input = checks.textQuestion;
    const said = await client.responses.create({ model: "auto", input, temperature: 0, max_output_tokens: 60 });
    checks.expectWord(said.output_text, "Paris");
  },
  picture: async () => {
    const parts = [
      { type: "text", text: checks.pictureQuestion },
      { type: "image_url", image_url: { url: checks.picture } },
    ];
    checks.expectWord((await chat(parts)).content, "red");
  },
  stream: async () => {
    let said = "";
    const stream = await client.chat.completions.create({
      ...auto,
      messages: user(checks.textQuestion),
      stream: true,
    });
    for await (const chunk of stream) said += chunk.choices[0]?.delta?.content ?? "";
    checks.expect(said, (await chat(checks.textQuestion)).content);
  },
  tool: async () => {
    const tools = [{ type: "function", function: checks.weather }];
    const [call] = (await chat(checks.toolQuestion, { tools })).tool_calls;
    checks.expect([call.function.name, JSON.parse(call.function.arguments)], ["get_weather", { city: "Berlin" }]);
  },
  structured: async () => {
    const json_schema = { name: "person", schema: checks.personSchema, strict: true };
    const said = await chat(checks.formQuestion, { response_format: { type: "json_schema", json_schema } });
    checks.expect(JSON.parse(said.content), checks.person);
  },
  error: async () => {
    const error = await chat("hi", { model: "nobody" }).catch((found) => found);
    checks.expect([error.constructor.name, error.code], ["NotFoundError", "model_not_found"]);
  },
});
