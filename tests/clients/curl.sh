#!/usr/bin/env bash
# curl; python3 joins what a stream says.
set -u
ask() {  # path, body
  curl -sS "$VLSERVE_URL$1" -H "Authorization: Bearer $VLSERVE_API_KEY" -H 'Content-Type: application/json' -d @- <<< "$2"
}
tell() {  # check, answer, what has to be in it
  if grep -qF -- "$3" <<< "$2"; then echo "$1 ok"; else echo "$1: $3 is not in $2"; fi
}
auto='"model": "auto", "temperature": 0, "max_tokens": 60'
question='"messages": [{"role": "user", "content": "What is the capital of France?"}]'
tell text "$(ask /v1/chat/completions "{$auto, $question}")" Paris
parts="[{\"type\": \"text\", \"text\": \"What colour is this picture?\"}, {\"type\": \"image_url\", \"image_url\": {\"url\": \"$PICTURE\"}}]"
tell picture "$(ask /v1/chat/completions "{$auto, \"messages\": [{\"role\": \"user\", \"content\": $parts}]}")" red
whole=$(ask /v1/chat/completions "{$auto, $question}" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])')
streamed=$(ask /v1/chat/completions "{$auto, $question, \"stream\": true}")
joined=$(python3 -c '
import json, sys
events = [line[6:] for line in sys.stdin.read().splitlines() if line.startswith("data: ")]
choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
print("".join(choice["delta"].get("content") or "" for choice in choices), events[-1])' <<< "$streamed")
if [ -n "$whole" ] && [ "$joined" = "$whole [DONE]" ]; then echo "stream ok"; else echo "stream: '$joined' is not '$whole [DONE]'"; fi
weather='{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}'
asked='"messages": [{"role": "user", "content": "What is the weather in Berlin?"}]'
tell tool "$(ask /v1/chat/completions "{$auto, $asked, \"tools\": [{\"type\": \"function\", \"function\": $weather}]}")" '{\"city\": \"Berlin\"}'
sentiment='"messages": [{"role": "user", "content": "Classify this sentiment: vLLM is wonderful!"}]'
choice='"structured_outputs": {"choice": ["positive", "negative"]}'
tell structured "$(ask /v1/chat/completions "{$auto, $sentiment, $choice}")" '"positive"'
tell error "$(ask /v1/chat/completions "{\"model\": \"nobody\", $question}")" '"model_not_found"'
