/** With identities the models door opens for nodes of the cluster alone, and a node knows which one it speaks to. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Claims } from '../../../../agent/fetch/claims.ts'
import type { ModelsDoor } from '../../../../agent/fetch/door.ts'
import { openDoor } from '../../../../agent/fetch/door.ts'
import type { PeerCredentials } from '../../../../agent/fetch/hub.ts'
import { peerDoors } from '../../../../agent/fetch/hub.ts'
import { NODE_USER_PREFIX, NODES, nodeDnsName, PEOPLE } from '../../../../src/api/trust.ts'
import { systemClock } from '../../../../src/lib/clock.ts'
import { silentLogger } from '../../../../src/lib/log.ts'
import type { Authority } from '../../../../src/lib/x509.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../../../src/lib/x509.ts'

const nowMs = systemClock.nowMs()
const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }

let dir: string
let cluster: Authority
let door: ModelsDoor

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-trust-'))
  cluster = await makeAuthority('cluster', validity)
  const credentialsFile = join(dir, 'credentials.json')
  writeFileSync(credentialsFile, JSON.stringify(await aNode('holder', cluster)))
  const address = '127.0.0.1'
  door = await openDoor({
    address,
    credentialsFile,
    modelsDir: dir,
    bootId: 'b',
    claims: new Claims(),
    log: silentLogger,
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
  const certificatePem = await issue(authority, { ...validity, requestPem, subject, dnsNames, usage: 'both' })
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

test('a person of the cluster, a node of another one, and a caller without a certificate get none', async () => {
  await expect(ask(await credentials(cluster, 'ann', PEOPLE))).rejects.toThrow()
  await expect(ask(await aNode('asker', await makeAuthority('cluster', validity)))).rejects.toThrow()
  await expect(fetch(`http://127.0.0.1:${door.port}/`)).rejects.toThrow()
})

test('another node that answers in the place of the named one is not spoken to', async () => {
  await expect(ask(await aNode('asker', cluster), 'other')).rejects.toThrow()
})
