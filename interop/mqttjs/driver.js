// SPDX-License-Identifier: Apache-2.0
// mqtt.js as a program: one JSON command a line, one JSON answer a line. Knows nothing of Thalovant.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { once } from "node:events";
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.env.PACKAGES}/`)("mqtt");

const WAIT = 10_000;
const packets = { connack: [], suback: [], puback: [], pubcomp: [], publish: [], disconnect: [], closed: [] };
const waiting = {};
let client;

function put(name, packet) {
  const next = (waiting[name] ?? []).shift();
  if (next) next(packet);
  else packets[name].push(packet);
}

function take(name) {
  if (packets[name].length) return Promise.resolve(packets[name].shift());
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} came`)), WAIT);
    (waiting[name] ??= []).push((packet) => { clearTimeout(timer); resolve(packet); });
  });
}

const standard = (name) => name[0].toUpperCase() + name.slice(1);
const plain = (properties) => Object.fromEntries(Object.entries(properties ?? {}).map(([k, v]) => [standard(k), v]));
const code = (packet) => packet.reasonCode ?? packet.returnCode ?? 0;

const commands = {
  async connect(c) {
    const scheme = c.path ? "wss" : "mqtts";
    const five = c.version === 5;
    const properties = Object.fromEntries(
      Object.entries(c.properties ?? {}).map(([k, v]) => [k[0].toLowerCase() + k.slice(1), v]));
    client = mqtt.connect(`${scheme}://${c.host}:${c.port}${c.path ?? ""}`, {
      protocolVersion: five ? 5 : 4, clientId: c.client_id, username: c.username, password: c.password,
      ca: [readFileSync(c.ca)], wsOptions: { ca: [readFileSync(c.ca)] }, clean: true, reconnectPeriod: 0,
      keepalive: c.keepalive ?? 60, properties: five ? properties : undefined,
      will: c.will ? { topic: c.will, payload: Buffer.from("offline"), qos: 1, retain: true } : undefined,
    });
    client.on("packetreceive", (packet) => { if (packet.cmd in packets) put(packet.cmd, packet); });
    client.on("close", () => put("closed", {}));
    client.on("error", (error) => put("closed", { text: error.message }));
    const packet = await take("connack");
    return { code: code(packet), present: packet.sessionPresent, properties: plain(packet.properties) };
  },
  async subscribe(c) {
    client.subscribe(c.topic, { qos: c.qos ?? 1 }, () => {});
    return [...(await take("suback")).granted];
  },
  async publish(c) {
    const user = Object.fromEntries(c.user ?? []);
    const options = { qos: c.qos ?? 1, retain: c.retain ?? false };
    if (c.user) options.properties = { userProperties: user };
    client.publish(c.topic, c.payload, options, () => {});
    if (options.qos === 0) return { code: 0 };
    const packet = await take(options.qos === 1 ? "puback" : "pubcomp");
    return { code: code(packet), reason: plain(packet.properties).ReasonString ?? null };
  },
  async message() {
    const packet = await take("publish");
    return {
      topic: packet.topic, payload: packet.payload.toString("latin1"), qos: packet.qos, retain: packet.retain,
    };
  },
  async ended() {
    await take("closed");
    const packet = packets.disconnect.shift();
    const reason = packet ? plain(packet.properties).ReasonString ?? null : null;
    return { code: packet ? code(packet) : null, by_server: Boolean(packet), reason };
  },
  async disconnect() {
    await client.endAsync();
    return {};
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await commands[command.do](command) };
  } catch (error) {
    answer = { error: error.name, text: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
await once(lines, "close");
process.exit(0);
