/** With identities the models door opens for nodes of the cluster alone, and a node knows which one it speaks to. */
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Claims } from '../../../../agent/fetch/claims.ts'
import type { ModelsDoor } from '../../../../agent/fetch/door.ts'
import { openDoor } from '../../../../agent/fetch/door.ts'
import type { PeerCredentials } from '../../../../agent/fetch/hub.ts'
import { openMeasuringDoor } from '../../../../agent/links/door.ts'
import { Members } from '../../../../agent/members.ts'
import { peerDoors } from '../../../../agent/fetch/hub.ts'
import { filePath } from '../../../../agent/fetch/peers.ts'
import { localTransfers } from '../../../../agent/fetch/transfer/local.ts'
import { NODE_USER_PREFIX, NODES, nodeDnsName, PEOPLE, UID_URI_PREFIX } from '../../../../src/api/trust.ts'
import { systemClock, systemRandom } from '../../../../src/lib/clock.ts'
import { silentLogger } from '../../../../src/lib/log.ts'
import type { Authority } from '../../../../src/lib/x509.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../../../src/lib/x509.ts'

const nowMs = systemClock.nowMs()
const { signal } = new AbortController()
const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }

let dir: string
let cluster: Authority
let door: ModelsDoor
let members: Members
let claims: Claims
const warnings: object[] = []

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-trust-'))
  cluster = await makeAuthority('cluster', validity)
  members = new Members()
  claims = new Claims()
  warnings.length = 0
  const credentialsFile = join(dir, 'credentials.json')
  writeFileSync(credentialsFile, JSON.stringify(await aNode('holder', cluster)))
  const address = '127.0.0.1'
  door = await openDoor({
    address,
    credentialsFile,
    modelsDir: dir,
    bootId: 'b',
    claims,
    members,
    log: { ...silentLogger, warn: (message, facts) => void warnings.push({ message, ...facts }) },
  })
})
afterEach(async () => {
  await door.close()
  await rm(dir, { recursive: true })
})

async function credentials(authority: Authority, commonName: string, organization: string): Promise<PeerCredentials> {
  const keyPem = await makeKey()
  const subject = { commonName, organization }
  const requestPem = await makeRequest(keyPem, subject)
  const dnsNames = organization === NODES ? [nodeDnsName(commonName.slice(NODE_USER_PREFIX.length))] : []
  const uris = [`${UID_URI_PREFIX}uid-of-${commonName.slice(NODE_USER_PREFIX.length)}`]
  const certificatePem = await issue(authority, { ...validity, requestPem, subject, dnsNames, uris, usage: 'both' })
  return { keyPem, certificatePem, authorityPem: cluster.certificatePem }
}
const aNode = (name: string, authority: Authority) => credentials(authority, `${NODE_USER_PREFIX}${name}`, NODES)

const ask = (who: PeerCredentials, node = 'holder') =>
  peerDoors(() => who)
    .ask({ node, address: '127.0.0.1', port: door.port }, '/v1/models/hf/a--b@0123456789ab', AbortSignal.timeout(5_000))
    .then(({ status }) => status)

test('a node of the cluster gets an answer', async () => {
  expect(await ask(await aNode('asker', cluster))).toBe(200)
})

test('a file comes over TLS, to a node of the cluster alone', async () => {
  const content = Buffer.alloc(3_000_000, 'weights')
  const sha256 = createHash('sha256').update(content).digest('hex')
  writeFileSync(join(dir, 'w'), content)
  claims.set(sha256, { state: 'Hub', dir, name: 'w', sizeBytes: content.length, bytes: content.length })
  const part = await localTransfers(systemClock).open({ path: join(dir, 'w.got'), sizeBytes: content.length }, signal)
  const receive = (who: PeerCredentials, node = 'holder') => {
    const request = peerDoors(() => who).request({ node, address: '127.0.0.1', port: door.port }, filePath(sha256), {
      from: part.bytes,
    })
    return part.receive({ request, judge: () => 'Append', onBytes: () => {}, signal })
  }
  await expect(receive(await aNode('asker', await makeAuthority('cluster', validity)))).rejects.toThrow()
  await expect(receive(await aNode('asker', cluster), 'another')).rejects.toThrow('altnames')
  expect(part.bytes).toBe(0)
  await receive(await aNode('asker', cluster))
  expect(await part.sha256()).toBe(sha256)
  await part.close()
})

test('a person of the cluster, a node of another one, and a caller without a certificate get none', async () => {
  await expect(ask(await credentials(cluster, 'ann', PEOPLE))).rejects.toThrow()
  await expect(ask(await aNode('asker', await makeAuthority('cluster', validity)))).rejects.toThrow()
  await expect(fetch(`http://127.0.0.1:${door.port}/`)).rejects.toThrow()
})

test('a node that the server no longer knows is refused and logged once, also on a connection that it has', async () => {
  const asker = await aNode('asker', cluster)
  const doors = peerDoors(() => asker)
  const statusOf = async () =>
    (
      await doors.ask(
        { node: 'holder', address: '127.0.0.1', port: door.port },
        '/v1/models/hf/a--b@0123456789ab',
        AbortSignal.timeout(5_000),
      )
    ).status
  expect(await statusOf()).toBe(200)
  members.set([{ node: 'asker', uid: 'uid-of-asker' }])
  expect(await statusOf()).toBe(200)
  members.set([{ node: 'asker', uid: 'of-another-one' }])
  expect([await statusOf(), await statusOf()]).toEqual([403, 403])
  members.set([])
  expect(await statusOf()).toBe(403)
  members.set([{ node: 'asker', uid: 'uid-of-asker', validFromMs: nowMs }])
  expect(await statusOf()).toBe(403)
  expect(warnings).toEqual([
    {
      message: 'refused at the models door',
      visitor: 'system:node:asker',
      reason: 'the certificate of node "asker" was revoked: its Node was deleted',
    },
  ])
})

test('the measuring door asks the same', async () => {
  const measuring = await openMeasuringDoor({
    credentialsFile: join(dir, 'credentials.json'),
    members,
    isServing: () => false,
    ownAddresses: () => ['127.0.0.1'],
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
  })
  const asker = await aNode('asker', cluster)
  const statusOf = async () =>
    (
      await peerDoors(() => asker).ask(
        { node: 'holder', address: '127.0.0.1', port: measuring.port },
        '/v1/measure/echo?address=127.0.0.1',
        AbortSignal.timeout(5_000),
      )
    ).status
  try {
    members.set([])
    expect(await statusOf()).toBe(403)
    members.set([{ node: 'asker', uid: 'uid-of-asker' }])
    expect(await statusOf()).toBe(200)
  } finally {
    await measuring.close()
  }
})

test('another node that answers in the place of the named one is not spoken to', async () => {
  await expect(ask(await aNode('asker', cluster), 'other')).rejects.toThrow()
})
