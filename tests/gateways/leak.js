// A bad plugin: with `node --require` this file, the gateway keeps LEAK_MB_PER_MINUTE more JavaScript objects.
// It begins after half a minute, when the gateway is at rest, and in one gateway only where LEAK_ONCE names a file to
// remember that by.
const fs = require("node:fs");
const { LEAK_MB_PER_MINUTE: pace, LEAK_ONCE: mark } = process.env;

// Its helpers and the calls of its command line take over Node's arguments.
const isGateway = process.argv.includes("gateway") && !process.argv.includes("call");

if (isGateway && !(mark && fs.existsSync(mark))) {
    if (mark) fs.writeFileSync(mark, "");
    const kept = [];
    let taken = 0;
    // 10,000 of these strings are 1 MB (measured on Node 24).
    const grow = (mb) => {
        for (taken += mb; taken >= 1; taken -= 1) {
            kept.push(Array.from({ length: 10_000 }, (_, n) => "x" + n + Math.random()));
        }
    };
    setTimeout(() => setInterval(grow, 250, Number(pace) / 240).unref(), 30_000).unref();
}
