/** The agent's end of a host's socket: State in, Stop out. It never reconnects by itself; hosts.ts decides that. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Clock } from '../../src/lib/clock.ts'
import { LineSplitter } from './lines.ts'
import type { FromHost, HostState, ToHost } from './protocol.ts'

export interface HostConnection {
  send(message: ToHost): void
  close(): void
}

export interface ConnectionListener {
  onState(state: HostState): void
  /** Once, after the last State. */
  onClosed(): void
}

/** A host that has stopped answering (SIGSTOP, a full disk) still accepts. */
const GREETING_MS = 3000

/** Connects and waits for the first State, which proves who answers; undefined when nobody does or it is another shard. */
export function connectHost(
  socketPath: string,
  shardUid: string,
  clock: Clock,
  listener: ConnectionListener,
): Promise<HostConnection | undefined> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const tooLate = clock.after(GREETING_MS, () => socket.destroy())
    let greeted = false
    let left = false
    const lines = new LineSplitter((line) => {
      const state = parseState(line)
      if (state === undefined || state.shardUid !== shardUid) return void socket.destroy()
      tooLate.cancel()
      listener.onState(state)
      if (!greeted) resolve(connectionOver(socket, () => (left = true)))
      greeted = true
    })
    socket.on('data', (chunk: Buffer) => lines.push(chunk))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      tooLate.cancel()
      if (!greeted) resolve(undefined)
      else if (!left) listener.onClosed()
    })
  })
}

function connectionOver(socket: Socket, onLeave: () => void): HostConnection {
  return {
    send: (message) => {
      if (socket.writable) socket.write(`${JSON.stringify(message)}\n`)
    },
    close: () => {
      onLeave()
      socket.destroy()
    },
  }
}

function parseState(line: string): HostState | undefined {
  try {
    return (JSON.parse(line) as FromHost).state
  } catch {
    return undefined
  }
}
