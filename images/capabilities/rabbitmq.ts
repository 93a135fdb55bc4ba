import { everywhere, owner } from "../capability.ts";

export const rabbitmq = everywhere("RabbitMQ", {
  packages: ["rabbitmq-server"],
  users: { rabbitmq: owner(602, "/var/lib/rabbitmq") },
  disabled: ["rabbitmq-server.service", "epmd.service", "epmd.socket"],
});
