/** What a bad neighbour does to a port, from a machine of the lab: holds connections, drips, sends rubbish, floods joins. */
import { connect as connectTcp } from 'node:net'
import type { Socket } from 'node:net'
import { isOpError } from '../../src/lib/errors.ts'
import { makeKey, makeRequest } from '../../src/lib/x509.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import { firstContact } from '../../src/rpc/pin.ts'

const [what = '', address = '', hash = ''] = process.argv.slice(2)
const [host = '', port = ''] = address.split(':')
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** A connection that says `words`, one each 100 ms; resolves with how it was opened. */
function open(words: readonly (string | Buffer)[] = []): Promise<{ socket: Socket; opened: boolean }> {
  return new Promise((resolve) => {
    const socket = connectTcp(Number(port), host)
    socket.on('error', () => resolve({ socket, opened: false }))
    socket.once('connect', () => {
      resolve({ socket, opened: true })
      void (async () => {
        for (const word of words) {
          if (socket.destroyed) return
          socket.write(word)
          await pause(100)
        }
      })()
    })
  })
}

/** `count` connections of a kind, held for `holdMs`. */
async function hold(count: number, words: readonly (string | Buffer)[], holdMs: number) {
  const all = await Promise.all(Array.from({ length: count }, () => open(words)))
  process.stdout.write('holding\n')
  await pause(holdMs)
  for (const { socket } of all) socket.destroy()
  return { opened: all.filter(({ opened }) => opened).length }
}

const HOLD_MS = 8_000
const rubbish = Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 89 + 7) % 256))
const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const deeds: Readonly<Record<string, () => Promise<object>>> = {
  idle: () => hold(500, [], HOLD_MS),
  slowly: () => hold(100, [...'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n'], HOLD_MS),
  rubbish: () => hold(50, [rubbish, rubbish], 1000),
  frames: () => hold(50, [preface, rubbish, rubbish], 1000),
  async joins() {
    const { authorityPem } = await firstContact(address, [hash])
    const requestPem = await makeRequest(await makeKey(), { commonName: 'x', organization: '' })
    const client = connect(address, { tls: { authorityPem } })
    const ends: Record<string, number> = {}
    const ask = async (n: number) => {
      const token = { id: `t${n}`, secret: 'guess'.repeat(8) }
      const end = await client.join({ node: `x${n}`, token, requestPem }).then(
        () => 'allowed',
        (error: unknown) => (isOpError(error) ? error.code : String(error)),
      )
      ends[end] = (ends[end] ?? 0) + 1
    }
    await Promise.all(Array.from({ length: 200 }, (_, n) => ask(n)))
    client.close()
    return ends
  },
}
const done = await deeds[what]?.()
process.stdout.write(`${JSON.stringify(done)}\n`)
process.exit(0)
