// A websocket server that says whom it was asked for, then sends back what comes. Prints its port.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
server.on("connection", (socket, request) => {
  socket.send(`host ${request.headers.host}`);
  socket.on("message", (message) => socket.send(message.toString()));
});
server.on("listening", () => console.log(server.address().port));
