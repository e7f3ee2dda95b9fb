// What every client is asked, and how a script tells what worked: a line `check ok`, or `check: what went wrong`.
import assert from "node:assert/strict";

export const url = process.env.VLSERVE_URL;
export const key = process.env.VLSERVE_API_KEY;
export const picture = process.env.PICTURE; // a red picture as a data: URL
export const textQuestion = "What is the capital of France?";
export const pictureQuestion = "What colour is this picture?";
export const toolQuestion = "What is the weather in Berlin?";
export const formQuestion = "Write this as JSON: name: Ana, city: Berlin";
export const person = { name: "Ana", city: "Berlin" };
export const weather = {
  name: "get_weather",
  description: "Get the current weather in a given location",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
export const personSchema = {
  type: "object",
  properties: { name: { type: "string" }, city: { type: "string" } },
  required: ["name", "city"],
  additionalProperties: false,
};

export const expect = assert.deepEqual;

export function expectWord(text, word) {
  assert.ok(String(text).includes(word), `${word} is not in ${text}`);
}

export async function run(checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`${name} ok`);
    } catch (error) {
      console.error(error);
      console.log(`${name}: ${error.name}: ${String(error.message).replace(/\s+/g, " ").slice(0, 300)}`);
    }
  }
}
