#!/usr/bin/env node
// Posts an alert of clawkeeper, which comes as JSON on standard input, to every service that the environment names.
// Exit code 0 when all of them took it; else the last line of standard error says which did not, and why.
// No address and no token is ever printed. docs/alerts.md says what the JSON holds and how each service is set up.
import { pathToFileURL } from "node:url";

const PREFIX = "CLAWKEEPER_ALERT_";
const SETTINGS = [
  "DISCORD_WEBHOOK",
  "SLACK_WEBHOOK",
  "TELEGRAM_TOKEN",
  "TELEGRAM_CHAT",
  "TELEGRAM_API",
  "WEBHOOK",
  "WEBHOOK_AUTHORIZATION",
];

// clawkeeper ends us 20 s after our start.
const BUDGET_MS = 17_000;
const ATTEMPT_MS = 8_000;
// From SIGTERM, when clawkeeper itself is told to stop, to giving up.
const HURRY_MS = 1_000;
const FIRST_PAUSE_MS = 1_000;
const STDIN_MAX_BYTES = 1 << 18;
const ANSWER_MAX_CHARS = 120;

const SIGN = { trouble: "🔴", back: "🟢", test: "🔵" };
const COLOR = { trouble: 0xc0392b, back: 0x27ae60, test: 0x2980b9 };

// The limits of the services, in UTF-16 units as JavaScript counts.
// Discord also counts an embed as a whole, to 6,000.
const DISCORD = { title: 256, description: 2_400, fields: 10, name: 50, value: 120, footer: 200 };
const SLACK = { header: 150, section: 2_900 };
const TELEGRAM = 4_000;

/** Text of others: no control or direction characters, no mention that a service would turn into a call. */
export function plain(text, secrets = []) {
  let out = String(text ?? "");
  for (const secret of secrets) out = out.replaceAll(secret, "***");
  return out
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")
    .replaceAll("@", "@\u2060");
}

/** At most so many units, not ending in half a character. */
export function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, most - 1).replace(/[\uD800-\uDBFF]$/, "")}…`;
}

/** The pieces of a message that every service shows in its own way. */
export function pieces(alert, secrets = []) {
  const clean = (text) => plain(text, secrets);
  const list = (value) => (Array.isArray(value) ? value : []);
  const utc = (ms) => `${new Date(Number(ms) || 0).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const minutes = (ms) => (ms < 90_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`);
  const name = clean(alert.app ?? alert.host ?? "gateway");
  const what = [];
  const numbers = [];
  for (const line of list(alert.lines)) {
    const { message, why, evidence, fix, ...rest } = line;
    if (message !== alert.title) what.push(clean(message));
    what.push(...[why, evidence].filter(Boolean).map(clean));
    for (const [field, value] of Object.entries(rest)) numbers.push([clean(field).replaceAll("_", " "), clean(value)]);
  }
  if (alert.kind === "back") {
    for (const it of list(alert.incidents)) {
      const often = it.count > 1 ? `, ${Number(it.count)} times` : "";
      numbers.push([clean(it.trouble), `from ${utc(it.since)}, ${minutes(alert.at - it.since)} ago${often}`]);
    }
  }
  const where = [
    alert.machine && `machine ${clean(alert.machine)}`,
    alert.region && clean(alert.region),
    alert.gateway && `OpenClaw ${clean(alert.gateway)}`,
    utc(alert.at),
  ];
  return {
    kind: SIGN[alert.kind] ? alert.kind : "trouble",
    heading: `${SIGN[alert.kind] ?? SIGN.trouble} ${name}: ${clean(alert.title)}`,
    what,
    numbers,
    fix: alert.fix ? clean(alert.fix) : "",
    where: where.filter(Boolean).join(" · "),
    quiet: alert.quiet_until ? `No more messages before ${utc(alert.quiet_until)}: there were many within an hour.` : "",
  };
}

/** All of it as text, for services that show nothing else, and for reading it aloud. */
export function asText(it) {
  const numbers = it.numbers.map(([name, value]) => `${name}: ${value}`);
  return [it.heading, ...it.what, ...numbers, it.fix && `To do: ${it.fix}`, it.quiet, it.where].filter(Boolean).join("\n");
}

// Discord's marks, and those at the start of a line.
const inDiscord = (text) => text.replace(/[\\*_~`|>#[\]()<:-]/g, "\\$&");
const inCode = (text) => text.replaceAll("`", "'");

export function discord(it) {
  const fix = it.fix && `**To do**\n\`\`\`\n${inCode(cut(it.fix, 900))}\n\`\`\``;
  const what = it.what.map((text) => inDiscord(cut(text, 1_000)));
  return {
    // Nobody is called, whatever the text says.
    allowed_mentions: { parse: [] },
    embeds: [
      {
        title: cut(it.heading, DISCORD.title),
        description: cut([...what, it.quiet && inDiscord(it.quiet)].filter(Boolean).join("\n"), DISCORD.description - fix.length) + (fix && `\n${fix}`),
        color: COLOR[it.kind],
        fields: it.numbers.slice(0, DISCORD.fields).map(([name, value]) => ({
          name: cut(name, DISCORD.name) || "-",
          value: cut(inDiscord(cut(value, DISCORD.value)), 2 * DISCORD.value) || "-",
          inline: value.length < 30,
        })),
        footer: { text: cut(it.where, DISCORD.footer) },
      },
    ],
  };
}

const inSlack = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export function slack(it) {
  // Plain text is shown as it is: no mark, no link, no mention in it means anything.
  const section = (text) => ({ type: "section", text: { type: "plain_text", text: cut(text, SLACK.section), emoji: false } });
  const numbers = it.numbers.map(([name, value]) => `${name}: ${value}`);
  const body = [...it.what, ...numbers, it.quiet].filter(Boolean).join("\n");
  const code = (text) => ({ type: "section", text: { type: "mrkdwn", text: `*To do*\n\`\`\`${inSlack(inCode(cut(text, 500)))}\`\`\`` } });
  return {
    text: inSlack(cut(it.heading, SLACK.header)),
    blocks: [
      { type: "header", text: { type: "plain_text", text: cut(it.heading, SLACK.header), emoji: false } },
      ...(body ? [section(body)] : []),
      ...(it.fix ? [code(it.fix)] : []),
      { type: "context", elements: [{ type: "plain_text", text: cut(it.where || "-", SLACK.header), emoji: false }] },
    ],
  };
}

export function telegram(it, chat) {
  const heading = cut(it.heading, 300);
  const fix = cut(it.fix, 800);
  const after = [it.quiet, it.where].filter(Boolean).join("\n");
  const numbers = it.numbers.map(([name, value]) => `${name}: ${value}`);
  const room = TELEGRAM - heading.length - fix.length - after.length - 20;
  const body = cut([...it.what, ...numbers].join("\n"), room);
  // Marks by position instead of by signs in the text, which then need no escaping.
  const entities = [{ type: "bold", offset: 0, length: heading.length }];
  let text = [heading, body].filter(Boolean).join("\n");
  if (fix) {
    text += "\n\nTo do:\n";
    entities.push({ type: "pre", offset: text.length, length: fix.length });
    text += fix;
  }
  return { chat_id: chat, text: `${text}\n\n${after}`, entities, link_preview_options: { is_disabled: true } };
}

/** What must not be seen: each value, and each piece of an address that may be a key; the longest first. */
function parts(values) {
  const isKey = (part) => part.length >= 10 && /[0-9]/.test(part);
  const all = values.filter(Boolean).flatMap((value) => [value, ...value.split(/[/?&= ]/).filter(isKey)]);
  return all.filter((value) => value.length >= 6).sort((one, other) => other.length - one.length);
}

/** What is to be posted where, and what is set in a wrong way. */
export function posts(alert, environment) {
  const set = (name) => environment[PREFIX + name]?.trim() || undefined;
  const secrets = parts(SETTINGS.map(set));
  const it = pieces(alert, secrets);
  const found = [];
  const wrong = [];
  const post = (service, setting, address, body, headers = {}) => {
    if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) found.push({ service, address, body, headers, secrets });
    else wrong.push(`${service}: ${PREFIX}${setting} is no http(s) address`);
  };
  if (set("DISCORD_WEBHOOK")) post("discord", "DISCORD_WEBHOOK", set("DISCORD_WEBHOOK"), discord(it));
  if (set("SLACK_WEBHOOK")) post("slack", "SLACK_WEBHOOK", set("SLACK_WEBHOOK"), slack(it));
  if (set("TELEGRAM_TOKEN") && set("TELEGRAM_CHAT")) {
    const api = (set("TELEGRAM_API") ?? "https://api.telegram.org").replace(/\/+$/, "");
    const address = `${api}/bot${encodeURI(set("TELEGRAM_TOKEN"))}/sendMessage`;
    post("telegram", "TELEGRAM_API", address, telegram(it, set("TELEGRAM_CHAT")));
  } else if (set("TELEGRAM_TOKEN") || set("TELEGRAM_CHAT")) {
    wrong.push(`telegram: ${PREFIX}TELEGRAM_TOKEN and ${PREFIX}TELEGRAM_CHAT are both needed`);
  }
  if (set("WEBHOOK")) {
    const authorization = set("WEBHOOK_AUTHORIZATION");
    post("webhook", "WEBHOOK", set("WEBHOOK"), { ...alert, text: asText(it) }, authorization ? { authorization } : {});
  }
  // Real alerts that arrive are no place to complain of it.
  const isTried = alert.kind === "test" || found.length === 0;
  for (const name of isTried ? Object.keys(environment) : []) {
    if (name.startsWith(PREFIX) && !SETTINGS.includes(name.slice(PREFIX.length))) wrong.push(`${name} means nothing here; is it misspelt?`);
  }
  if (found.length === 0 && wrong.length === 0) wrong.push(`none of ${PREFIX}{DISCORD_WEBHOOK,SLACK_WEBHOOK,TELEGRAM_TOKEN,WEBHOOK} is set`);
  return { found, wrong };
}

/** How long a service wants us to wait, in milliseconds; undefined when it does not say. */
function asked(response, body) {
  const seconds = Number(response.headers.get("retry-after") ?? body?.retry_after ?? body?.parameters?.retry_after ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : undefined;
}

/** Posts once. Returns nothing when it was taken, else why not, and when to try again, if that makes sense. */
async function attempt({ service, address, body, headers, secrets }, signal) {
  let response;
  let answer;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json", "user-agent": "clawkeeper", ...headers },
      body: JSON.stringify(body),
      // Nobody is followed to another place with what is secret.
      redirect: "manual",
      signal,
    });
    answer = (await response.text()).slice(0, 10_000);
  } catch (error) {
    // The text of an error may have the address in it; its code has not.
    return { why: `${service} cannot be reached (${error.cause?.code ?? error.cause?.name ?? error.name})`, again: true };
  }
  if (response.ok) return undefined;
  const json = parsed(answer);
  // What it says may repeat what we sent, or where to.
  const said = plain(json?.description ?? json?.message ?? (json ? "" : answer), secrets).trim();
  const why = `${service} answered ${response.status}${said && ` (${cut(said, ANSWER_MAX_CHARS)})`}`;
  return { why, again: response.status === 429 || response.status >= 500, wait: asked(response, json) };
}

/** Posts until it is taken, refused for good, or out of time. Returns why it was not taken. */
export async function deliver(post, { until, stop }) {
  for (let pause = FIRST_PAUSE_MS; ; pause *= 2) {
    const time = Math.max(1, Math.min(ATTEMPT_MS, until() - Date.now()));
    const refused = await attempt(post, AbortSignal.any([stop, AbortSignal.timeout(time)]));
    if (!refused) return undefined;
    const wait = refused.wait ?? pause;
    if (!refused.again || stop.aborted || Date.now() + wait >= until()) return refused.why;
    await new Promise((done) => setTimeout(done, wait));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function input() {
  const chunks = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > STDIN_MAX_BYTES) return undefined;
    chunks.push(chunk);
  }
  const alert = parsed(Buffer.concat(chunks).toString("utf8"));
  return alert && typeof alert === "object" && alert.v === 1 ? alert : undefined;
}

async function main() {
  const began = Date.now() - Math.round(process.uptime() * 1_000);
  const stop = new AbortController();
  let until = began + BUDGET_MS;
  process.on("SIGTERM", () => {
    until = Math.min(until, Date.now() + HURRY_MS);
    setTimeout(() => stop.abort(), HURRY_MS).unref();
  });
  const alert = await input();
  if (!alert) {
    console.error("standard input holds no alert of clawkeeper, version 1");
    return 2;
  }
  const { found, wrong } = posts(alert, process.env);
  const results = await Promise.all(found.map((post) => deliver(post, { until: () => until, stop: stop.signal })));
  const failures = [...wrong, ...results.filter(Boolean)];
  // One line: clawkeeper logs the last.
  if (failures.length > 0) console.error(failures.join("; "));
  return failures.length > 0 ? 1 : 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  // Connections that are kept open must not keep us.
  process.exit(await main());
}
