import { describe, expect, it } from 'vitest'
import type { Node } from '../../../../src/api/node.ts'
import { API_VERSION } from '../../../../src/api/meta.ts'
import { RESET_ANNOTATION, UID_URI_PREFIX } from '../../../../src/api/trust.ts'
import type { CertificateFacts } from '../../../../src/lib/x509.ts'
import { checkSelection, checkStatusWriter, checkWrite, isOwn } from '../../../../src/server/trust/access.ts'
import { identityOfCertificates } from '../../../../src/server/trust/identities.ts'
import { createObject, patchObject } from '../../../../src/store/objects.ts'
import { aStore } from '../../../support/stores.ts'
import { VirtualClock } from '../../../support/virtualclock.ts'

const NOW_MS = Date.UTC(2026, 10, 26)

async function aCluster() {
  const clock = new VirtualClock(NOW_MS)
  const { store } = await aStore({ clock })
  const made = (kind: string, name: string, spec: object) =>
    store.transact((tx) => createObject(tx, { apiVersion: API_VERSION, kind, metadata: { name }, spec }).object)
  const node = await made('Node', 'mini-1', {})
  const user = await made('User', 'ann', { role: 'operator' })
  const identityOf = identityOfCertificates({ store, clock, isTrusted: (issuer) => issuer === 'mctl c' })
  const call = (certificate: CertificateFacts | undefined, rpc = 'Get') =>
    identityOf({ certificate, rpc, peer: '10.0.0.2:5', header: () => undefined })
  return { store, clock, node, user, call }
}

const certificate = (commonName: string, organization: string, uid: string): CertificateFacts => ({
  commonName,
  organization,
  uris: [`${UID_URI_PREFIX}${uid}`],
  dnsNames: [],
  serial: '1',
  issuer: 'mctl c',
  notBeforeMs: NOW_MS - 1000,
  notAfterMs: NOW_MS + 1000,
})

describe('who calls', () => {
  it('is nobody without a certificate, who may only ask to join', async () => {
    const { call } = await aCluster()
    expect(() => call(undefined)).toThrow('no client certificate of this cluster')
    expect(call(undefined, 'Join')).toMatchObject({ anonymous: true })
  })

  it('is the node or person of the certificate, as long as what it was issued for is there', async () => {
    const { store, node, user, call } = await aCluster()
    const nodes = certificate('system:node:mini-1', 'mctl:nodes', node.metadata.uid)
    expect(call(nodes)).toMatchObject({
      user: 'system:node:mini-1',
      node: 'mini-1',
      certificate: { serial: '1', issuer: 'mctl c' },
    })
    expect(call(certificate('ann', 'mctl:people', user.metadata.uid))).toMatchObject({ user: 'ann', role: 'operator' })
    // A person with a node's name in the certificate is no node.
    expect(() => call(certificate('system:node:mini-1', 'mctl:people', node.metadata.uid))).toThrow('was revoked')
    expect(() => call(certificate('ann', 'mctl:people', 'another-uid'))).toThrow('was revoked')
    await store.transact((tx) => tx.remove({ kind: 'User', namespace: '', name: 'ann' }))
    expect(() => call(certificate('ann', 'mctl:people', user.metadata.uid))).toThrow('was revoked')
  })

  it('is refused once the certificate is over, and once its node was reset', async () => {
    const { store, clock, node, call } = await aCluster()
    const nodes = certificate('system:node:mini-1', 'mctl:nodes', node.metadata.uid)
    const annotations = { [RESET_ANNOTATION]: '2026-11-26T00:00:00Z' }
    const ref = { kind: 'Node', namespace: '', name: 'mini-1' }
    await store.transact((tx) => patchObject(tx, ref, 'merge', { metadata: { annotations } }).object as Node)
    expect(() => call(nodes)).toThrow('was revoked by a reset')
    expect(call({ ...nodes, notBeforeMs: NOW_MS })).toMatchObject({ node: 'mini-1' })
    await clock.advance(2000)
    expect(() => call({ ...nodes, notBeforeMs: NOW_MS })).toThrow('expired 2026-11-26T00:00:01')
  })
})

describe('what each may do', () => {
  const operator = { user: 'ann', role: 'operator' } as const
  const viewer = { user: 'bob', role: 'viewer' } as const
  const gateway = { user: 'system:gateway', role: 'gateway' } as const
  const agent = { user: 'system:node:mini-1', node: 'mini-1' } as const

  it('people write by their role; rights are an admin’s', () => {
    expect(() => checkWrite({ user: 'root', role: 'admin' }, 'create', 'User')).not.toThrow()
    expect(() => checkWrite(operator, 'apply', 'ModelDeployment')).not.toThrow()
    for (const kind of ['User', 'ApiKey', 'JoinToken']) {
      expect(() => checkWrite(operator, 'create', kind)).toThrow('only an admin may')
      expect(() => checkSelection(operator, { kind: kind as 'User' })).toThrow('only an admin may')
    }
    expect(() => checkWrite(viewer, 'delete', 'Node')).toThrow(
      'user "bob" (viewer) may not delete objects of kind Node',
    )
    expect(() => checkSelection(viewer, { kind: 'Node' })).not.toThrow()
  })

  it('the gateway reads what routing needs and writes nothing; agents write no specs', () => {
    expect(() => checkSelection(gateway, { kind: 'ApiKey' })).not.toThrow()
    expect(() => checkSelection(gateway, { kind: 'User' })).toThrow('the gateway may not read')
    expect(() => checkWrite(gateway, 'create', 'Node')).toThrow('may not create')
    expect(() => checkWrite(agent, 'create', 'Node')).toThrow('agents report the status')
  })

  it('status is for the agent of the node, and for an admin', async () => {
    const { node, user } = await aCluster()
    expect(() => checkStatusWriter(agent, node)).not.toThrow()
    expect(() => checkStatusWriter({ ...agent, node: 'mini-2' }, node)).toThrow('it is not its own')
    for (const person of [operator, viewer, gateway])
      expect(() => checkStatusWriter(person, node)).toThrow('may not write')
    expect(isOwn(viewer, user)).toBe(false)
    expect(isOwn({ user: 'somebody' }, user)).toBe(true)
  })
})
