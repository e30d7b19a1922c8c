/**
 * Ranges of ports for agents that tests start, below those of `mctl dev` (10000 and up) and of every system's outgoing
 * connections. Files run beside each other, and two agents that walk one range meet in it: a port that is free when one of
 * them looks is taken by the other before its shard listens. So whoever has a range listens on the first of every fifty
 * ports in it, and the kernel is the judge; the range is free again when the process of the file ends.
 */
import type { Server } from 'node:net'
import { createServer } from 'node:net'
import type { PortRange } from '../../agent/ports.ts'

const FIRST = 3_000
const END = 10_000
const STEP = 50

/** A range that no other test on this machine has, of about `count` ports. */
export async function claimPorts(count = STEP): Promise<PortRange> {
  for (let first = FIRST; first + count <= END; first += STEP) {
    const claims: Server[] = []
    for (let port = first; port < first + count; port += STEP) {
      const claim = await listen(port)
      if (claim === undefined) break
      claims.push(claim)
    }
    if (claims.length * STEP >= count) return { first: first + 1, last: first + count - 1 }
    for (const claim of claims) claim.close()
  }
  throw new Error(`no ${count} ports from ${FIRST} to ${END - 1} are free for another test`)
}

/** The same as an agent's --port-range. */
export async function claimPortRange(count?: number): Promise<string> {
  const { first, last } = await claimPorts(count)
  return `${first}-${last}`
}

function listen(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(undefined))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server.unref()))
  })
}
