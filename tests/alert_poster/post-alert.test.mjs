// The image's poster against a local server that stands in for each service. Run by tests/alerts.rs.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { asText, cut, deliver, discord, pieces, plain, posts, slack, telegram } from "../../docker/post-alert.mjs";

const POSTER = fileURLToPath(new URL("../../docker/post-alert.mjs", import.meta.url));
const TOKEN = "123456:AAE-this-is-the-bots-own-token";

const OOM = {
  v: 1,
  kind: "trouble",
  trouble: "out-of-memory",
  title: "the gateway ran out of memory",
  at: 1_763_737_965_123,
  fix: "fly machine update 3d8d9014b32d68 --vm-memory 2048",
  incidents: [{ id: "out-of-memory-1763737965123", trouble: "out-of-memory", since: 1_763_737_965_123, count: 1 }],
  lines: [
    {
      message: "gateway exited",
      class: "oom-kernel",
      signal: "SIGKILL",
      evidence: "/sys/fs/cgroup/memory.events rose by 1",
      memory: "1871MB",
      limit: "2048MB",
      fix: "fly machine update 3d8d9014b32d68 --vm-memory 2048",
    },
  ],
  quiet_until: null,
  host: "3d8d9014b32d68",
  app: "my-openclaw",
  machine: "3d8d9014b32d68",
  region: "iad",
  clawkeeper: "0.1.0",
  gateway: "2026.9.6",
};

const HELD = {
  ...OOM,
  trouble: "held",
  title: "holding: the gateway is not started until this is mended",
  fix: "correct it (clawkeeper config edit)",
  lines: [{ message: "holding: the gateway is not started until this is mended", why: "/data/openclaw.json:3:1: expected a comma" }],
};

const BACK = {
  ...OOM,
  kind: "back",
  trouble: null,
  title: "the gateway serves again",
  at: OOM.at + 12 * 60_000,
  fix: null,
  incidents: [{ ...OOM.incidents[0], count: 4 }],
  lines: [],
};

/** Everything that a service could act on, or that could break its message. */
const NASTY = "@everyone <!channel> <@U123> [x](https://evil.invalid) **b** `c` ```d``` # e\u202e\u0000\n\r> & \\ \ud800";

let server;
let address;
/** What each request was answered with, the last for all that follow. */
let answers;
let requests;

before(async () => {
  server = http.createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    requests.push({ method: request.method, path: request.url, headers: request.headers, body: JSON.parse(body) });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === "silence") return;
    response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
    response.end(answer.body ?? "{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  address = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

beforeEach(() => {
  answers = [{ status: 200 }];
  requests = [];
});

const everything = () => ({
  CLAWKEEPER_ALERT_DISCORD_WEBHOOK: `${address}/api/webhooks/1/discord-secret-17`,
  CLAWKEEPER_ALERT_SLACK_WEBHOOK: `${address}/services/T0/B0/slack-secret-17`,
  CLAWKEEPER_ALERT_TELEGRAM_TOKEN: TOKEN,
  CLAWKEEPER_ALERT_TELEGRAM_CHAT: "-10012345",
  CLAWKEEPER_ALERT_TELEGRAM_API: address,
  CLAWKEEPER_ALERT_WEBHOOK: `${address}/hook?key=any-secret-17`,
  CLAWKEEPER_ALERT_WEBHOOK_AUTHORIZATION: "Bearer any-bearer-17",
});

/** Runs the poster as clawkeeper does. */
async function run(alert, environment, { stopAfter } = {}) {
  const child = spawn(process.execPath, [POSTER], { env: { PATH: process.env.PATH, ...environment } });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (output += data));
  // It need not read to the end what is no alert.
  child.stdin.on("error", () => {});
  child.stdin.end(typeof alert === "string" ? alert : JSON.stringify(alert));
  if (stopAfter) stopAfter().then(() => child.kill("SIGTERM"));
  const [code, signal] = await once(child, "close");
  return { code, signal, output };
}

const of = (path) => requests.find((request) => request.path.startsWith(path));
const soon = { until: () => Date.now() + 5_000, stop: new AbortController().signal };
const post = () => ({ service: "webhook", address: `${address}/a-secret-path`, body: {}, headers: {}, secrets: [] });

test("one alert goes to every service, with what happened, the numbers and the fix", async () => {
  const { code, output } = await run(OOM, everything());
  assert.equal(output, "");
  assert.equal(code, 0);
  assert.equal(requests.length, 4);
  for (const request of requests) {
    assert.equal(request.method, "POST");
    assert.match(request.headers["content-type"], /application\/json/);
    const text = JSON.stringify(request.body);
    for (const part of ["my-openclaw", "the gateway ran out of memory", "1871MB", "rose by 1", "--vm-memory 2048", "iad", "2026.9.6"]) {
      assert.ok(text.replaceAll("\\\\", "").includes(part), `${part} in ${text}`);
    }
  }
  assert.deepEqual(of("/api/webhooks/1/discord-secret-17").body.allowed_mentions, { parse: [] });
  assert.ok(of("/services/T0/B0/slack-secret-17").body.blocks.length > 1);
  const telegramBody = of(`/bot${TOKEN}/sendMessage`).body;
  assert.equal(telegramBody.chat_id, "-10012345");
  assert.equal(telegramBody.parse_mode, undefined);
  const generic = of("/hook");
  assert.equal(generic.path, "/hook?key=any-secret-17");
  assert.equal(generic.headers.authorization, "Bearer any-bearer-17");
  const { text, ...rest } = generic.body;
  assert.deepEqual(rest, OOM, "a program gets the alert as clawkeeper made it");
  assert.match(text, /^🔴 my-openclaw: the gateway ran out of memory\n/);
});

test("back says what is over, since when and how often", () => {
  const text = asText(pieces(BACK));
  assert.match(text, /^🟢 my-openclaw: the gateway serves again\n/);
  assert.match(text, /out-of-memory: from 2025-11-21 15:12 UTC, 12 min ago, 4 times/);
  assert.ok(!text.includes("To do"));
});

test("a hold shows its reason once, and the last message of an hour says that it is", () => {
  const text = asText(pieces({ ...HELD, quiet_until: OOM.at + 3_600_000 }));
  assert.equal(text.split("holding").length, 2, text);
  assert.match(text, /expected a comma/);
  assert.match(text, /No more messages before 2025-11-21 16:12 UTC/);
});

test("hostile text calls nobody, hides nothing and breaks no message", () => {
  const alert = { ...OOM, title: NASTY, fix: NASTY, app: NASTY, lines: [{ message: NASTY, why: NASTY, field: NASTY, "@here": NASTY }] };
  const it = pieces(alert);
  for (const text of [asText(it), telegram(it, "1").text]) {
    assert.ok(!/@(everyone|here|U)/.test(text), text);
    assert.ok(!/[\u0000-\u0009\u000b-\u001f\u202e\ud800]/.test(text.replace(/[\ud800-\udbff][\udc00-\udfff]/g, "")), text);
  }
  const embed = discord(it).embeds[0];
  const marked = embed.description.replace(/```[^]*?```/g, "").replaceAll("**To do**", "");
  assert.ok(!/(?<!\\)[*`[\]<>#|~_]/.test(marked), marked);
  assert.equal(embed.description.split("```").length, 3, "the code block ends where it should");
  for (const block of slack(it).blocks) {
    const text = block.text ?? block.elements[0];
    if (text.type === "mrkdwn") assert.ok(!/<[!@#]/.test(text.text), text.text);
  }
  assert.ok(!slack(it).text.includes("<"));
});

test("text of any length stays within the limits of each service", () => {
  for (const filler of ["x", "*", "é", "😀", "&", "@"]) {
    const long = filler.repeat(20_000);
    const fields = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`${index}${long}`, long]));
    const it = pieces({ ...OOM, title: long, fix: long, app: long, lines: [{ message: long, why: long, ...fields }, fields] });
    const embed = discord(it).embeds[0];
    const sizes = [embed.title, embed.description, embed.footer.text, ...embed.fields.flatMap((field) => [field.name, field.value])];
    assert.ok(embed.title.length <= 256 && embed.description.length <= 4_096 && embed.fields.length <= 25);
    assert.ok(embed.fields.every((field) => field.name.length <= 256 && field.value.length <= 1_024));
    assert.ok(sizes.reduce((sum, text) => sum + text.length, 0) <= 6_000, `${filler}: embed`);
    for (const block of slack(it).blocks) {
      const { text } = block.text ?? block.elements[0];
      assert.ok(text.length <= (block.type === "header" ? 150 : 3_000), `${filler}: ${block.type}`);
    }
    const { text, entities } = telegram(it, "1");
    assert.ok(text.length <= 4_096, `${filler}: telegram ${text.length}`);
    assert.ok(entities.every(({ offset, length }) => offset + length <= text.length));
    assert.ok(text.isWellFormed());
  }
});

test("nothing in a message is empty where a service refuses that", () => {
  const it = pieces({ v: 1, kind: "trouble" });
  assert.ok(discord(it).embeds[0].title);
  for (const block of slack(it).blocks) assert.ok((block.text ?? block.elements[0]).text);
  assert.ok(telegram(it, "1").entities.every((entity) => entity.length > 0));
});

test("telegram's marks stand where its text has what they mark", () => {
  const { text, entities } = telegram(pieces(OOM), "1");
  const marked = Object.fromEntries(entities.map(({ type, offset, length }) => [type, text.slice(offset, offset + length)]));
  assert.equal(marked.pre, OOM.fix);
  assert.equal(marked.bold, "🔴 my-openclaw: the gateway ran out of memory");
});

test("429 is tried again when the service says, 500 after a pause", async () => {
  for (const first of [
    { status: 429, headers: { "retry-after": "0.05" } },
    { status: 429, body: '{"retry_after":0.05}' },
    { status: 429, body: '{"ok":false,"parameters":{"retry_after":0}}' },
    { status: 503 },
  ]) {
    requests = [];
    answers = [first, { status: 204, body: "" }];
    const answer = await deliver({ ...post(), body: { x: 1 } }, soon);
    assert.equal(answer, undefined, JSON.stringify(first));
    assert.equal(requests.length, 2);
  }
});

test("a service that asks for more time than there is, or refuses for good, is not asked again", async () => {
  for (const [answer, said] of [
    [{ status: 429, headers: { "retry-after": "3600" } }, /webhook answered 429/],
    [{ status: 404, body: '{"message":"Unknown Webhook","code":10015}' }, /answered 404 \(Unknown Webhook\)/],
    [{ status: 301, headers: { location: "http://127.0.0.1:1/" } }, /answered 301/],
  ]) {
    requests = [];
    answers = [answer];
    assert.match(await deliver(post(), soon), said);
    assert.equal(requests.length, 1);
  }
});

test("a service that says nothing costs its time and no more", async () => {
  answers = ["silence"];
  const until = Date.now() + 300;
  const why = await deliver(post(), { until: () => until, stop: new AbortController().signal });
  assert.match(why, /webhook cannot be reached \(TimeoutError\)/);
  assert.equal(requests.length, 1);
});

test("one that fails is named, the others get their message, and no secret is said", async () => {
  const reflecting = (request) => JSON.stringify({ message: `no ${request}` });
  answers = [{ status: 401, body: reflecting(`${address}/api/webhooks/1/discord-secret-17 ${TOKEN}`) }];
  const environment = everything();
  const { code, output } = await run(OOM, environment);
  assert.equal(code, 1);
  assert.equal(requests.length, 4);
  assert.equal(output.trim().split("\n").length, 1, "clawkeeper logs one line");
  for (const service of ["discord", "slack", "telegram", "webhook"]) assert.match(output, new RegExp(`${service} answered 401`));
  const gone = { ...environment, CLAWKEEPER_ALERT_DISCORD_WEBHOOK: "http://127.0.0.1:1/discord-secret-17", CLAWKEEPER_ALERT_TELEGRAM_API: "nonsense" };
  const wrong = await run({ ...OOM, kind: "test" }, { ...gone, CLAWKEEPER_ALERT_SLACK_WEBHOK: "slack-secret-17" }, { stopAfter: async () => {
    while (requests.length < 6) await new Promise((done) => setTimeout(done, 20));
  } });
  assert.match(wrong.output, /telegram: CLAWKEEPER_ALERT_TELEGRAM_API is no http\(s\) address/);
  assert.match(wrong.output, /CLAWKEEPER_ALERT_SLACK_WEBHOK means nothing here/);
  for (const said of [output, wrong.output]) {
    for (const secret of ["discord-secret-17", "slack-secret-17", TOKEN, "any-secret-17", "any-bearer-17"]) assert.ok(!said.includes(secret), said);
  }
});

test("a secret that came with an alert is not passed on", async () => {
  const environment = everything();
  const alert = { ...HELD, lines: [{ message: "x", why: `bad token ${TOKEN} at ${environment.CLAWKEEPER_ALERT_SLACK_WEBHOOK}` }] };
  for (const { service, body } of posts(alert, environment).found) {
    const text = service === "webhook" ? body.text : JSON.stringify(body);
    assert.ok(!text.includes(TOKEN) && !text.includes("slack-secret-17"), `${service}: ${text}`);
  }
});

test("a telegram token without a chat, and nothing set at all, are said", async () => {
  const half = await run(OOM, { CLAWKEEPER_ALERT_TELEGRAM_TOKEN: TOKEN });
  assert.equal(half.code, 1);
  assert.match(half.output, /are both needed/);
  const none = await run(OOM, { CLAWKEEPER_ALERT_DISCORD_WEBHOOK: " " });
  assert.match(none.output, /none of .* is set/);
});

test("what is no alert is refused", async () => {
  for (const input of ["", "{", "[]", "null", '{"v":2}', "x".repeat(1 << 19)]) {
    const { code, output } = await run(input, everything());
    assert.equal(code, 2, input.slice(0, 20));
    assert.match(output, /no alert/);
  }
  assert.equal(requests.length, 0);
});

test("told to stop while a service is silent, it ends by itself", async () => {
  answers = ["silence"];
  const asked = async () => {
    while (requests.length === 0) await new Promise((done) => setTimeout(done, 20));
  };
  const { code, signal, output } = await run(OOM, { CLAWKEEPER_ALERT_WEBHOOK: address }, { stopAfter: asked });
  assert.equal(signal, null);
  assert.equal(code, 1);
  assert.match(output, /webhook cannot be reached/);
  assert.equal(requests.length, 1);
});

test("plain and cut leave ordinary text alone", () => {
  assert.equal(plain("/data/openclaw.json:3:1: expected a comma — é 😀"), "/data/openclaw.json:3:1: expected a comma — é 😀");
  assert.equal(cut("abc", 3), "abc");
  assert.equal(cut("a😀b", 3), "a…");
});
