// Handles and what lies beside them: found again after a crash, sockets short enough, one start per shard.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Handle } from '../../../agent/handles.ts'
import {
  SOCKET_PATH_BYTES_MAX,
  portsOf,
  readHandles,
  removeHandle,
  shardDir,
  shardsDir,
  socketDir,
  socketName,
  writeHandle,
} from '../../../agent/handles.ts'
import { readClaim, readState, takeClaim, voidClaim, writeJson } from '../../../agent/shardhost/statefile.ts'

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'mctl-handles-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

const aHandle = (shardUid: string): Handle => ({
  version: 1,
  shardUid,
  shardName: 'chat-0-e1-0',
  namespace: 'default',
  clusterUid: 'c',
  bootId: 'b',
  prepared: { address: '127.0.0.1', port: 1, enginePort: 2, ringAddress: '127.0.0.1:3' },
})

test('what was written is read again, until it is removed', () => {
  writeHandle(dataDir, aHandle('a'))
  writeHandle(dataDir, aHandle('b'))
  expect(readHandles(dataDir).map(({ shardUid }) => shardUid)).toEqual(['a', 'b'])
  removeHandle(dataDir, 'a')
  expect(readHandles(dataDir)).toEqual([aHandle('b')])
  expect(portsOf(aHandle('b'))).toEqual([1, 2, 3])
})

test('half a handle is none, and its folder is cleared away', () => {
  mkdirSync(shardDir(dataDir, 'a'), { recursive: true })
  writeFileSync(join(shardDir(dataDir, 'a'), 'handle.json'), '{"version":1,"sha')
  expect(readHandles(dataDir)).toEqual([])
  expect(readdirSync(shardsDir(dataDir))).toEqual([])
})

test('a uid never leads out of the folder of shards', () => {
  for (const uid of ['../../etc', '..', '.', '', 'a/b'])
    expect(shardDir(dataDir, uid)).toMatch(new RegExp(`^${shardsDir(dataDir)}/[a-f0-9]{64}$`))
})

test('a socket path is short enough whatever the data directory', () => {
  const name = socketName('7d3f5a0e-0000-4000-8000-000000000000')
  for (const length of [1, 40, 60, 75, 80, 200]) {
    const dir = socketDir(`/${'d'.repeat(length)}`, 501)
    expect(Buffer.byteLength(join(dir, name))).toBeLessThanOrEqual(SOCKET_PATH_BYTES_MAX)
  }
  expect(socketDir('/var/mctl', 501)).toBe('/var/mctl/run')
  expect(socketDir(`/${'d'.repeat(200)}`, 501)).not.toBe(socketDir(`/${'e'.repeat(200)}`, 501))
})

test('a claim is the first one that asks, and stays', () => {
  expect(takeClaim(dataDir, { pid: 7, startTime: 't' })).toBe(true)
  expect(takeClaim(dataDir, voidClaim)).toBe(false)
  expect(readClaim(dataDir)).toEqual({ pid: 7, startTime: 't' })
  expect(readdirSync(dataDir)).toEqual(['host.claim'])
})

test('a state file is whole or not there', () => {
  expect(readState(dataDir)).toBeUndefined()
  writeJson(join(dataDir, 'state.json'), { phase: 'Ready' })
  expect(readState(dataDir)).toEqual({ phase: 'Ready' })
  expect(readdirSync(dataDir)).toEqual(['state.json'])
})
