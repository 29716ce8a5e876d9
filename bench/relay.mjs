// A longer way to a server.
import net from "node:net";
import { freePort } from "../demo/servers.mjs";

/** Starts a relay to `port`. What is sent either way arrives `delay` ms later, which may be changed at any time. */
export async function startRelay(port) {
  const own = await freePort();
  const relay = { url: `http://127.0.0.1:${own}`, delay: 0 };
  const towards = (socket) => (bytes) => {
    // Timers of the same length fire in their order.
    if (relay.delay > 0) setTimeout(() => socket.write(bytes), relay.delay);
    else socket.write(bytes);
  };
  const server = net.createServer({ noDelay: true }, (near) => {
    const far = net.connect({ port, host: "127.0.0.1", noDelay: true });
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("data", towards(to));
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
    }
  });
  await new Promise((resolve) => server.listen(own, "127.0.0.1", 1024, resolve));
  return relay;
}
