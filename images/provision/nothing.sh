#!/bin/sh
# Stands in for start-stop-daemon while packages are configured.
