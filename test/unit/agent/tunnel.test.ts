/**
 * The way to a worker of llama.cpp: open for the node that leads its group, by the name of its shard, and for nobody
 * else; and it passes bytes on as a cable would.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { TunnelEntrance, TunnelExit } from '../../../agent/shardhost/tunnel.ts'
import { NODE_USER_PREFIX, NODES, PEOPLE, nodeDnsName } from '../../../src/api/trust.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { Authority } from '../../../src/lib/x509.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../../src/lib/x509.ts'

const nowMs = systemClock.nowMs()
const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }

let dir: string
let cluster: Authority
const closing: { close(): void }[] = []
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-tunnel-'))
  cluster = await makeAuthority('cluster', validity)
})
afterEach(() => {
  for (const door of closing.splice(0)) door.close()
  rmSync(dir, { recursive: true, force: true })
})

async function identity(name: string, organization = NODES, authority = cluster): Promise<string> {
  const keyPem = await makeKey()
  const subject = { commonName: organization === NODES ? `${NODE_USER_PREFIX}${name}` : name, organization }
  const requestPem = await makeRequest(keyPem, subject)
  const dnsNames = [nodeDnsName(name)]
  const certificatePem = await issue(authority, { ...validity, requestPem, subject, dnsNames, usage: 'both' })
  const file = join(dir, `${name}-${organization}.json`)
  writeFileSync(file, JSON.stringify({ keyPem, certificatePem, authorityPem: cluster.certificatePem }))
  return file
}

/** Stands for a ggml-rpc-server. */
async function engine(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, onSocket)
  closing.push(server)
  return portOf(server, 0)
}

const portOf = (server: Server, port: number) =>
  new Promise<number>((resolve) =>
    server.listen(port, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  )

async function freePort(): Promise<number> {
  const server = createServer()
  const port = await portOf(server, 0)
  await new Promise((done) => server.close(done))
  return port
}

async function exitTo(enginePort: number, credentialsFile?: string): Promise<string> {
  const address = `127.0.0.1:${await freePort()}`
  const exit = new TunnelExit({ address, shardUid: 'uid-1', visitor: 'leader', enginePort, credentialsFile })
  closing.push(exit)
  await exit.listen()
  return address
}

function entranceTo(address: string, credentialsFile?: string, shardUid = 'uid-1', node = 'worker'): TunnelEntrance {
  const entrance = new TunnelEntrance({ address, node, shardUid }, credentialsFile)
  closing.push(entrance)
  return entrance
}

const obstacle = (entrance: TunnelEntrance) => entrance.obstacle(AbortSignal.timeout(5_000))
const echo = (socket: Socket) => void socket.on('error', () => {}).pipe(socket)

async function said(socket: Socket): Promise<string> {
  let text = ''
  for await (const part of socket.setEncoding('utf8') as AsyncIterable<string>) text += part
  return text
}

describe('with identities', () => {
  test('the node that leads gets through, and hears all that was said after it had ended', async () => {
    const address = await exitTo(await engine(echo), await identity('worker'))
    const entrance = entranceTo(address, await identity('leader'))
    expect(await obstacle(entrance)).toBeUndefined()
    const socket = connect({ host: '127.0.0.1', port: await entrance.listen() })
    socket.end('layers')
    expect(await said(socket)).toBe('layers')
  })

  test('nobody else: not another node, a person named like it, a node of another cluster, nor one without a name', async () => {
    let reached = 0
    const address = await exitTo(await engine(() => (reached += 1)), await identity('worker'))
    expect(await obstacle(entranceTo(address, await identity('other')))).toBe('403 this rank is led by another node')
    const foreign = await makeAuthority('cluster', validity)
    for (const file of [await identity('leader', PEOPLE), await identity('leader', NODES, foreign), undefined])
      expect(await obstacle(entranceTo(address, file))).toMatch(/ECONNRESET|hang up|disconnected|alert/)
    expect(reached).toBe(0)
  })

  test('another node in the place of the worker is not spoken to, and another shard of it neither', async () => {
    const address = await exitTo(await engine(echo), await identity('worker'))
    const leader = await identity('leader')
    expect(await obstacle(entranceTo(address, leader, 'uid-1', 'somebody'))).toContain('altnames')
    expect(await obstacle(entranceTo(address, leader, 'uid-0'))).toBe('421 this is the door of another shard')
  })
})

describe('as a cable', () => {
  test('many bytes pass whole, and a side that does not read holds the other back', async () => {
    const held: Socket[] = []
    const address = await exitTo(await engine((socket) => void held.push(socket.pause())))
    const entrance = entranceTo(address)
    const socket = connect({ host: '127.0.0.1', port: await entrance.listen() })
    const chunk = Buffer.alloc(1 << 20, 'x')
    const total = 64
    let taken = 0
    for (let sent = 0; sent < total; sent++) socket.write(chunk, () => (taken += 1))
    await new Promise((resolve) => setTimeout(resolve, 300))
    // What the two kernels and the streams hold is some megabytes; nobody keeps the rest for a reader who is not there.
    expect(taken).toBeLessThan(total / 2)
    socket.end()
    const [reader] = held
    let bytes = 0
    for await (const part of reader as AsyncIterable<Buffer>) bytes += part.length
    expect(bytes).toBe(total << 20)
  })

  test('an engine that dies ends the leader’s connection, and a leader that dies the engine’s', async () => {
    const held: Socket[] = []
    const address = await exitTo(await engine((socket) => void held.push(socket.on('error', () => {}))))
    const entrance = entranceTo(address)
    const port = await entrance.listen()
    const dial = async () => {
      const socket = connect({ host: '127.0.0.1', port }).on('error', () => {})
      await new Promise((resolve) => socket.write('x', resolve))
      for (let i = 0; held.length === 0 && i < 200; i++) await new Promise((resolve) => setTimeout(resolve, 10))
      return socket
    }
    const first = await dial()
    const ended = new Promise((resolve) => first.resume().once('close', resolve))
    held.pop()?.resetAndDestroy()
    await ended
    const second = await dial()
    const [other] = held
    const gone = new Promise((resolve) => other?.resume().once('end', resolve))
    second.resetAndDestroy()
    await gone
  })

  test('an engine that does not listen is told of as such', async () => {
    expect(await obstacle(entranceTo(await exitTo(await freePort())))).toMatch(/^503 connect ECONNREFUSED/)
  })
})
