/** A door opens for one organization of the cluster; of everybody else nothing is heard, however early they speak. */
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { doorServer } from '../../../agent/doorserver.ts'
import { GATEWAYS, NODES, PEOPLE } from '../../../src/api/trust.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../../src/lib/x509.ts'

let dir: string
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'mctl-door-'))))
afterEach(() => rmSync(dir, { recursive: true }))

test('a request that comes with the last bytes of a handshake is heard of visitors alone', async () => {
  const nowMs = systemClock.nowMs()
  const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }
  const authority = await makeAuthority('cluster', validity)
  const { certificatePem: authorityPem } = authority
  const identity = async (organization: string) => {
    const keyPem = await makeKey()
    const subject = { commonName: 'somebody', organization }
    const requestPem = await makeRequest(keyPem, subject)
    const certificatePem = await issue(authority, { ...validity, requestPem, subject, usage: 'both' })
    return { keyPem, certificatePem, authorityPem }
  }
  const file = join(dir, 'credentials.json')
  writeFileSync(file, JSON.stringify(await identity(NODES)))
  const heard: string[] = []
  const server = doorServer(file, GATEWAYS, (request, reply) => {
    heard.push(request.url ?? '')
    reply.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  for (const organization of [PEOPLE, NODES, GATEWAYS]) {
    const { keyPem, certificatePem } = await identity(organization)
    for (let tries = 0; tries < 5; tries++)
      await new Promise<void>((resolve) => {
        const tls = {
          ca: authorityPem,
          key: keyPem,
          cert: certificatePem,
          checkServerIdentity: () => undefined,
          servername: 'a',
        }
        const socket = connect({ host: '127.0.0.1', port, ...tls }).on('error', () => {})
        // Before the handshake is over: it goes out together with its last message.
        socket.write(`POST /${organization} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
        socket.resume().once('close', () => resolve())
      })
  }
  server.close()
  expect(new Set(heard)).toEqual(new Set([`/${GATEWAYS}`]))
})

test('a door follows its credentials from one authority to the next, and then knows the old one no more', async () => {
  const nowMs = systemClock.nowMs()
  const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }
  const [old, fresh] = [await makeAuthority('old', validity), await makeAuthority('fresh', validity)]
  const by = async (authority: typeof old, organization: string) => {
    const keyPem = await makeKey()
    const subject = { commonName: 'somebody', organization }
    const requestPem = await makeRequest(keyPem, subject)
    return { keyPem, certificatePem: await issue(authority, { ...validity, requestPem, subject, usage: 'both' }) }
  }
  const both = `${old.certificatePem}\n${fresh.certificatePem}`
  const file = join(dir, 'credentials.json')
  const keep = (identity: object, authorityPem: string, secondsAgo: number) => {
    writeFileSync(file, JSON.stringify({ ...identity, authorityPem }))
    utimesSync(file, nowMs / 1000 - secondsAgo, nowMs / 1000 - secondsAgo)
  }
  keep(await by(old, NODES), old.certificatePem, 30)
  const server = doorServer(file, GATEWAYS, (_, reply) => reply.end('in'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const callers = { old: await by(old, GATEWAYS), fresh: await by(fresh, GATEWAYS) }
  const sessions = new Map<string, Buffer>()
  const opens = (who: keyof typeof callers, servername: string | undefined = 'a') =>
    new Promise<boolean>((resolve) => {
      const { keyPem: key, certificatePem: cert } = callers[who]
      const tls = { ca: both, key, cert, checkServerIdentity: () => undefined, session: sessions.get(who) }
      const socket = connect({ host: '127.0.0.1', port, ...tls, ...(servername && { servername }) })
      socket.on('session', (session) => sessions.set(who, session)).on('error', () => resolve(false))
      socket.once('secureConnect', () => socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'))
      socket.once('data', () => resolve(true)).once('close', () => resolve(false))
    })
  expect([await opens('old'), await opens('fresh')]).toEqual([true, false])
  keep(await by(fresh, NODES), both, 20)
  expect([await opens('old'), await opens('fresh')]).toEqual([true, true])
  keep(await by(fresh, NODES), fresh.certificatePem, 10)
  // Not with a session of before, either; nor by naming nobody, which is answered as at the start.
  expect([await opens('old'), await opens('fresh'), await opens('old', '')]).toEqual([false, true, false])
  server.close()
})
