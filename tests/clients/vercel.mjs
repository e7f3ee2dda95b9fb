// The Vercel AI SDK with its provider for OpenAI-compatible servers.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import * as checks from "./checks.mjs";

const provider = createOpenAICompatible({
  name: "vlserve",
  baseURL: `${checks.url}/v1`,
  apiKey: checks.key,
  supportsStructuredOutputs: true,
});
const auto = { model: provider("auto"), temperature: 0, maxOutputTokens: 60, maxRetries: 0 };

await checks.run({
  text: async () => checks.expectWord((await generateText({ ...auto, prompt: checks.textQuestion })).text, "Paris"),
  picture: async () => {
    const content = [
      { type: "text", text: checks.pictureQuestion },
      { type: "image", image: checks.picture },
    ];
    checks.expectWord((await generateText({ ...auto, messages: [{ role: "user", content }] })).text, "red");
  },
  stream: async () => {
    let said = "";
    for await (const piece of streamText({ ...auto, prompt: checks.textQuestion }).textStream) said += piece;
    checks.expect(said, (await generateText({ ...auto, prompt: checks.textQuestion })).text);
  },
  tool: async () => {
    const { description, parameters } = checks.weather;
    const tools = { get_weather: tool({ description, inputSchema: jsonSchema(parameters) }) };
    const [call] = (await generateText({ ...auto, prompt: checks.toolQuestion, tools })).toolCalls;
    checks.expect([call.toolName, call.input], ["get_weather", { city: "Berlin" }]);
  },
  structured: async () => {
    const schema = jsonSchema(checks.personSchema);
    checks.expect((await generateObject({ ...auto, prompt: checks.formQuestion, schema })).object, checks.person);
  },
  error: async () => {
    const error = await generateText({ ...auto, model: provider("nobody"), prompt: "hi" }).catch((found) => found);
    checks.expect([APICallError.isInstance(error), error.statusCode], [true, 404]);
    checks.expectWord(error.message, "nobody");
  },
});
