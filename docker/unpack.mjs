// Downloads an archive, proves that it is the one meant, and unpacks it.
//   node unpack.mjs URL SHA256 FOLDER      {arch} in URL becomes amd64 or arm64
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";

const [template, expected, folder] = process.argv.slice(2);
const url = template.replaceAll("{arch}", process.arch === "x64" ? "amd64" : process.arch);
if (!/^[0-9a-f]{64}$/i.test(expected)) {
  console.error(`${url} is to be unpacked, but no SHA-256 of it was given`);
  process.exit(1);
}
const answer = await fetch(url);
if (!answer.ok) {
  console.error(`${url} answers ${answer.status} ${answer.statusText}`);
  process.exit(1);
}
const archive = Buffer.from(await answer.arrayBuffer());
const found = createHash("sha256").update(archive).digest("hex");
if (found !== expected.toLowerCase()) {
  console.error(`${url} has the SHA-256 ${found}, not ${expected}`);
  process.exit(1);
}
fs.mkdirSync(folder, { recursive: true });
execFileSync("tar", ["-xz", "--no-same-owner", "-C", folder], { input: archive });
