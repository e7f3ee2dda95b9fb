#!/usr/bin/env bash
# A text request and a picture request with curl: samples/chat.sh [PICTURE.png]
set -euo pipefail

url=${VLSERVE_URL:-http://127.0.0.1:8000/v1}
key=${VLSERVE_API_KEY:-none}
picture=${1:-$(dirname "$0")/screenshots/login.png}
[ -r "$picture" ] || { echo "Cannot read $picture." >&2 && exit 2; }

# Sends the JSON on standard input; prints the status, the headers with engine and reason, and the answer.
ask() {
  curl --silent --show-error --include --fail-with-body "$url/chat/completions" \
    -H "Authorization: Bearer $key" -H 'Content-Type: application/json' -H 'Expect:' -d @- |
    tr -d '\r' | sed -n -e '1p' -e '/^x-/p' -e '/^$/,$p' || {
    local code=$?
    [ "$code" = 22 ] || echo "No service answers at $url. Start one (make demo) or set VLSERVE_URL." >&2 # 22: an error is printed
    return "$code"
  }
  echo
}

echo "== text =="
ask <<'JSON'
{"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "Name three things to test on a sign-in page."}]}
JSON

echo "== picture =="
# A picture in base64 is too long for a command line, so the body is piped.
{
  printf '{"model": "auto", "max_tokens": 200, "messages": [{"role": "user", "content": ['
  printf '{"type": "text", "text": "What does this page tell the user?"},'
  printf '{"type": "image_url", "image_url": {"url": "data:image/png;base64,'
  base64 <"$picture" | tr -d '\n'
  printf '"}}]}]}'
} | ask
