/** With which certificate the gateway is reached: given, of the cluster, or none; and that a new one is taken up. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import type { TLSSocket } from 'node:tls'
import { join } from 'node:path'
import { X509Certificate } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gatewayTls, readTls } from '../../../src/bin/gatewaytls.ts'
import type { ServerFlags } from '../../../src/cli/context.ts'
import { startGateway } from '../../../src/gateway/gateway.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { TrustAuthority } from '../../../src/server/trust/authority.ts'
import { openAuthority } from '../../../src/server/trust/authority.ts'
import { aStore } from '../../support/stores.ts'

let dir: string
let authority: TrustAuthority
const over = new AbortController()
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-gwtls-'))
  const { store } = await aStore({ clock: systemClock })
  authority = (await openAuthority({ store, dataDir: dir, clock: systemClock, random: systemRandom }, true))!
})
afterEach(() => {
  over.abort()
  rmSync(dir, { recursive: true })
})

const flags = (changes: Partial<ServerFlags>): ServerFlags => ({
  dataDir: dir,
  listen: '10.0.0.5:6480',
  gateway: '10.0.0.5:6481',
  ...changes,
})
const doors = () => ({ dataDir: dir, clock: systemClock, log: silentLogger, signal: over.signal })
const filesFor = (changes: Partial<ServerFlags>, by: TrustAuthority | undefined = authority) =>
  gatewayTls(flags(changes), by, doors())

test('over a network it is TLS for the address that is listened on, and the certificate is kept while it is good', async () => {
  const files = (await filesFor({}))!
  const { cert } = readTls(files)
  const certificate = new X509Certificate(cert.slice(cert.indexOf('-----BEGIN CERTIFICATE')))
  expect(certificate.subjectAltName).toContain('IP Address:10.0.0.5')
  expect(certificate.checkIssued(new X509Certificate(authority.shownPem))).toBe(true)
  expect(statSync(files.cert).mode & 0o777).toBe(0o600)
  await filesFor({})
  expect(readTls(files).cert).toBe(cert)
  await filesFor({ gateway: '10.0.0.6:6481' })
  expect(readTls(files).cert).not.toBe(cert)
})

test('on loopback, without identities, and where somebody said so it is plain', async () => {
  expect(await filesFor({ gateway: '127.0.0.1:6481' })).toBeUndefined()
  expect(await filesFor({ gateway: 'none' })).toBeUndefined()
  expect(await filesFor({ gatewayInsecureHttp: true })).toBeUndefined()
})

test('given files are checked before anything starts, and win', async () => {
  const { certificatePem, keyPem } = await authority.forGatewayDoor({ dnsNames: ['ai.example'] })
  const [cert, key, other] = [join(dir, 'c.pem'), join(dir, 'k.pem'), join(dir, 'o.pem')]
  writeFileSync(cert, certificatePem)
  writeFileSync(key, keyPem)
  writeFileSync(other, (await authority.forGateway()).keyPem)
  expect(await filesFor({ gatewayCert: cert, gatewayKey: key })).toEqual({ cert, key })
  await expect(filesFor({ gatewayCert: cert })).rejects.toThrow('give both')
  await expect(filesFor({ gatewayCert: cert, gatewayKey: other })).rejects.toThrow('that belong together')
  await expect(filesFor({ gatewayCert: join(dir, 'none'), gatewayKey: key })).rejects.toThrow('none with the key')
  await expect(filesFor({ gatewayCert: cert, gatewayKey: key, gatewayInsecureHttp: true })).rejects.toThrow('exclude')
})

test('clients that know the authority are answered over TLS, and a renewed certificate is shown to the next', async () => {
  const files = (await filesFor({ gateway: '10.0.0.5:6481' }))!
  const gateway = await startGateway({
    listen: '127.0.0.1:0',
    clock: systemClock,
    log: silentLogger,
    clusterUid: () => 'c',
    serving: readTls(files),
  })
  const [host, port] = gateway.address.split(':')
  const shown = () =>
    new Promise<string>((resolve, reject) => {
      const options = { host, port, path: '/healthz', ca: authority.bundlePem, agent: false }
      const call = request(options, (reply) => {
        reply.resume()
        const { serialNumber } = (reply.socket as TLSSocket).getPeerCertificate()
        reply.once('end', () => (reply.statusCode === 200 ? resolve(serialNumber) : reject(new Error('not 200'))))
      })
      call.once('error', reject).end()
    })
  const before = await shown()
  expect(await shown()).toBe(before)
  await filesFor({ gateway: '10.0.0.6:6481' })
  gateway.setServing(readTls(files))
  expect(await shown()).not.toBe(before)
  await expect(fetch(`https://${gateway.address}/healthz`)).rejects.toThrow()
  expect(readFileSync(files.key, 'utf8')).toContain('PRIVATE KEY')
  await gateway.stop(0)
})
