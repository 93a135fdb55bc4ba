#!/bin/sh
# network.sh NETWORK ADDRESS/PREFIX: the network of a stack. A namespace that nothing leaves: no interface of this computer
# is in it and none of its interfaces is on this computer. `operator` stands here, at ADDRESS.
set -eu
network=$1
address=$2
ip netns add "$network"
ip -n "$network" link set lo up
ip -n "$network" link add br0 type bridge
ip -n "$network" addr add "$address" dev br0
ip -n "$network" link set br0 up
