// Drives Chromium for the page's tests: one JSON command a line on standard input, one JSON answer a line on standard
// output. Ends, with the browser, when standard input does. Usage: node driver.mjs FOLDER-OF-PLAYWRIGHT CHROMIUM
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(folder + "/")("playwright-core");
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const pages = [];

const commands = {
  // A page with a profile of its own; `seen` collects what it says and whom it asks.
  async open({ url, width, height, scheme }) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", timezoneId: "UTC" });
    const page = await context.newPage(), seen = { console: [], requests: [] };
    page.on("console", it => it.type() !== "log" && seen.console.push(`${it.type()}: ${it.text()}`));
    page.on("pageerror", error => seen.console.push(`error: ${error}`));
    page.on("request", it => seen.requests.push(it.url()));
    pages.push({ page, seen });
    const answer = await page.goto(url);
    return { page: pages.length - 1, headers: answer.headers() };
  },
  async evaluate({ page, code }) {
    return pages[page].page.evaluate(code);
  },
  async press({ page, key }) {
    await pages[page].page.keyboard.press(key);
  },
  async resize({ page, width, height }) {
    await pages[page].page.setViewportSize({ width, height });
  },
  async scheme({ page, scheme }) {
    await pages[page].page.emulateMedia({ colorScheme: scheme });
  },
  async screenshot({ page, path }) {
    await pages[page].page.screenshot({ path });
  },
  async seen({ page }) {
    return pages[page].seen;
  },
  async close({ page }) {
    await pages[page].page.context().close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
