// Reads one JSON string a line from standard input as the gateway reads a config: JSON first, then JSON5.
// Prints one line for each: the value as JSON, or nothing where it is refused.
const JSON5 = require(process.argv[2]);
// It warns of U+2028 in strings.
console.warn = () => {};
const lines = require("fs").readFileSync(0, "utf8").split("\n");
lines.pop();
const out = [];
for (const line of lines) {
  const text = JSON.parse(line);
  let value;
  try {
    try {
      value = JSON.parse(text);
    } catch {
      value = JSON5.parse(text);
    }
    out.push(JSON.stringify(value));
  } catch {
    out.push("");
  }
}
process.stdout.write(out.join("\n") + "\n");
