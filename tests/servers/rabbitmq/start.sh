#!/bin/sh
# RabbitMQ with an epmd of its own, both of which end with the process that started this, however that ends:
# the shell becomes the server, and epmd, its child, asks the kernel to be killed with it.
setpriv --pdeathsig KILL epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
until epmd -names >/dev/null 2>&1; do sleep 0.05; done
# Not the one in /usr/sbin: that becomes the user rabbitmq. Input "allowed" makes it this very process, without a shell between.
for server in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server; do
    RABBITMQ_ALLOW_INPUT=yes exec "$server" -noinput
done
