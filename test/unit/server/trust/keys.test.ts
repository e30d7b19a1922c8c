/** The files of the authorities' keys come in line with the store from wherever a crash left them. */
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock, systemRandom } from '../../../../src/lib/clock.ts'
import { fingerprintOf, makeKey, makeRequest, readCertificate } from '../../../../src/lib/x509.ts'
import { openAuthority, recordAuthority } from '../../../../src/server/trust/authority.ts'
import type { KeptKey } from '../../../../src/server/trust/keys.ts'
import { keyFiles, makeFirstKey, makeNextKey, readKeys, settleKeys } from '../../../../src/server/trust/keys.ts'
import { setStatus } from '../../../../src/store/objects.ts'
import { aStore } from '../../../support/stores.ts'

let dir: string
let first: KeptKey
let next: KeptKey
const names = () => readKeys(dir).map(({ name }) => name)
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-keys-'))
  first = await makeFirstKey(dir, 'c', systemClock)
  next = await makeNextKey(dir, 'c', 'two', systemClock)
})
afterEach(() => rmSync(dir, { recursive: true }))

test('two authorities have names and subjects of their own, in files for their owner alone', () => {
  expect(names()).toEqual([first.name, next.name])
  expect(first.name).not.toBe(next.name)
  const [one, two] = [first, next].map(({ certificatePem }) => readCertificate(certificatePem).commonName)
  expect([one, two]).toEqual(['mctl c', 'mctl c two'])
  expect(keyFiles.map((file) => statSync(join(dir, file)).mode & 0o777)).toEqual([0o600, 0o600])
})

test('a key that nobody was told of goes, but not while it is being made known', () => {
  expect(settleKeys(dir, [first.name], false).map(({ name }) => name)).toEqual([first.name])
  expect(names()).toEqual([first.name, next.name])
  settleKeys(dir, [first.name], true)
  expect(names()).toEqual([first.name])
})

test('the next one takes the place of a retired one, and doing it again changes nothing', () => {
  for (let time = 0; time < 2; time++) {
    expect(settleKeys(dir, [next.name], true).map(({ name }) => name)).toEqual([next.name])
    expect(existsSync(join(dir, keyFiles[1]))).toBe(false)
  }
})

test('keys of another cluster are left alone and sign nothing', () => {
  expect(settleKeys(dir, ['ca-00000000'], false)).toEqual([])
  expect(names()).toEqual([first.name, next.name])
})

test('the phases say which one signs for others, which one the server shows, and whom it trusts', async () => {
  const { store } = await aStore({ clock: systemClock })
  const doors = { store, dataDir: dir, clock: systemClock, random: systemRandom }
  const authority = (await openAuthority(doors, false))!
  let changes = 0
  authority.onChange(() => (changes += 1))
  const signers = async () => {
    authority.refresh(false)
    const keyPem = await makeKey()
    const requestPem = await makeRequest(keyPem, { commonName: 'x', organization: '' })
    const node = readCertificate(await authority.forNode('mini-1', 'uid', requestPem)).issuer
    const person = readCertificate(await authority.forPerson('ann', 'uid', requestPem)).issuer
    const server = readCertificate((await authority.forServer()).certificatePem).issuer
    const gateway = readCertificate((await authority.forGateway()).certificatePem).issuer
    return { node, person, server, gateway, trusted: authority.told.authorities.length }
  }
  const [old, fresh] = ['mctl c', 'mctl c two']
  expect(await signers()).toEqual({ node: old, person: old, server: old, gateway: old, trusted: 1 })
  // The start removed the next key: nobody had been told of it.
  next = await authority.makeNextKey()
  const nextSubject = readCertificate(next.certificatePem).commonName
  expect(nextSubject).not.toBe(fresh)
  await store.transact((tx) => recordAuthority(tx, next, 'Introduced'))
  expect(await signers()).toEqual({ node: old, person: old, server: old, gateway: old, trusted: 2 })
  const into = (name: string, phase: 'Signing' | 'Outgoing' | 'Retiring') =>
    store.transact((tx) => setStatus(tx, tx.get('Authority', '', name)!, { phase, since: '2026-11-26T00:00:00Z' }))
  await into(first.name, 'Outgoing')
  await into(next.name, 'Signing')
  expect(await signers()).toEqual({ node: nextSubject, person: nextSubject, server: old, gateway: old, trusted: 2 })
  expect(authority.told.signing).toBe(fingerprintOf(next.certificatePem))
  await into(first.name, 'Retiring')
  const all = { node: nextSubject, person: nextSubject, server: nextSubject, gateway: nextSubject }
  expect(await signers()).toEqual({ ...all, trusted: 2 })
  expect([authority.nameOf(old ?? ''), authority.nameOf(nextSubject)]).toEqual([first.name, next.name])
  await store.transact((tx) => tx.remove({ kind: 'Authority', namespace: '', name: first.name }))
  expect(await signers()).toEqual({ ...all, trusted: 1 })
  expect(authority.nameOf(old ?? '')).toBeUndefined()
  expect(names()).toEqual([next.name])
  expect(changes).toBe(4)
})
