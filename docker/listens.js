// A container's health check: whether what it runs listens on this port. Small, as it is asked again and again.

import { connect } from 'node:net'

const socket = connect({ port: Number(process.argv[2]), host: '127.0.0.1', timeout: 3_000 })
socket.on('connect', () => process.exit(0))
socket.on('timeout', () => process.exit(1))
socket.on('error', () => process.exit(1))
