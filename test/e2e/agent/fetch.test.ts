/**
 * An agent that is a process of its own fetches from a hub over HTTP: killed outright in the middle, it goes on from
 * the byte that it had, and nothing starts before every file is right.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import type { Condition } from '../../../src/api/meta.ts'
import type { Node } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { nodeArgv } from '../../../src/lib/nodeargv.ts'
import { serve } from '../../../src/rpc/grpcserver.ts'
import type { RunningServer } from '../../../src/rpc/grpcserver.ts'
import { identityOfHeaders } from '../../../src/rpc/identity.ts'
import { makeHandlers } from '../../../src/server/handlers.ts'
import type { Sessions } from '../../../src/server/sessions.ts'
import { createSessions } from '../../../src/server/sessions.ts'
import { createObject } from '../../../src/store/objects.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { wantedShard } from '../../support/agentworld.ts'
import { COMMIT, FileHub, faults } from '../../support/filehub.ts'
import { claimPortRange } from '../../support/ports.ts'
import { until } from '../../support/processes.ts'

const BIG = 'model.safetensors'
const BIG_BYTES = 24 * 2 ** 20
const SECRET = 'hf_this_is_secret'

let dir: string
let hub: FileHub
let endpoint: string
let store: Store
let sessions: Sessions
let server: RunningServer
let agent: ChildProcess | undefined
let portRange: string

beforeEach(async () => {
  dir = mkdtempSync('/tmp/mctl-f-')
  portRange = await claimPortRange()
  hub = new FileHub({ 'config.json': '{}', 'tokenizer.json': '{"v":1}', [BIG]: Buffer.alloc(BIG_BYTES, 'weights') })
  endpoint = await hub.open()
  const doors = { clock: systemClock, random: systemRandom, log: silentLogger }
  store = await openStore({ dataDir: `${dir}/server`, ...doors })
  sessions = createSessions({ store, ...doors })
  const none = { planReport: () => ({}), serverVersion: 'test', gatewayUrl: () => undefined }
  const handlers = makeHandlers({ ...doors, ...none, store, sessions })
  server = await serve(handlers, { listen: '127.0.0.1:0', identityOf: identityOfHeaders, log: silentLogger })
})
afterEach(async () => {
  await kill()
  sessions.close()
  await server.stop(100)
  await store.close()
  await hub.close()
  rmSync(dir, { recursive: true, force: true })
})

/** From the sources, so that no build is needed. */
function startAgent(): void {
  const log = openSync(join(dir, 'agent.log'), 'a')
  const bin = new URL('../../../src/bin/any.ts', import.meta.url).href
  const [node = '', ...argv] = nodeArgv(bin, 'mctl')
  const flags = ['--server', server.address, '--name', 'mini-1', '--port-range', portRange]
  const folders = ['--data-dir', join(dir, 'agent'), '--models-dir', join(dir, 'models')]
  agent = spawn(node, [...argv, 'agent', ...flags, ...folders], {
    env: { ...process.env, HF_ENDPOINT: endpoint, HF_TOKEN: SECRET, MCTL_HOME: join(dir, 'home') },
    stdio: ['ignore', log, log],
  })
}

async function kill(): Promise<void> {
  const child = agent
  agent = undefined
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

async function want(): Promise<void> {
  const { metadata, spec, apiVersion, kind } = wantedShard({
    source: 'hf://demo/tiny',
    digest: 'sha256:d',
    revision: COMMIT,
    files: hub.list(),
  })
  const { name, namespace = 'default' } = metadata
  const manifest = { apiVersion, kind, metadata: { name, namespace, finalizers: ['mctl.dev/agent'] }, spec } as const
  await store.transact((tx) => createObject(tx, manifest as never))
}
const shard = (): Shard | undefined => store.snapshot().get('Shard', 'default', 'chat-0-e1-0')
const models = () => (store.snapshot().get('Node', '', 'mini-1') as Node | undefined)?.status?.models
const folder = () => join(dir, 'models', 'hf', `demo--tiny@${COMMIT.slice(0, 12)}`)
const partBytes = () => statSync(join(folder(), `${BIG}.part`), { throwIfNoEntry: false })?.size ?? 0

test('killed in the middle of a fetch, the agent goes on from the byte it had, and prepares when all is right', async () => {
  hub.faults.set(BIG, [faults.slow(2 ** 18, 20)])
  startAgent()
  await until(() => sessions !== undefined && models() !== undefined, 60_000, 'the agent has reported its Node')
  await want()
  const fetching = await until(() => (shard()?.status?.progress?.doneBytes ? shard() : undefined), 60_000, 'progress')
  expect(fetching.status).toMatchObject({
    phase: 'Fetching',
    progress: { totalBytes: BIG_BYTES + 9 },
    conditions: [{ type: 'Ready', status: 'False', reason: 'Fetching' }],
  })
  await until(() => partBytes() > BIG_BYTES / 4, 60_000, 'a quarter is here')
  await kill()
  const had = partBytes()
  expect(had).toBeLessThan(BIG_BYTES)

  startAgent()
  await until(() => shard()?.status?.phase === 'Prepared', 60_000, 'the shard is Prepared')
  // The first request, and one for exactly what was missing; small files were there.
  expect(hub.asked.filter((a) => a.file === BIG).map((a) => a.from)).toEqual([0, had])
  expect(hub.asked.filter((a) => a.file !== BIG)).toHaveLength(2)
  expect(readFileSync(join(folder(), BIG)).equals(hub.files.get(BIG) ?? Buffer.alloc(0))).toBe(true)
  await until(() => models()?.some((m) => m.source === 'hf://demo/tiny' && m.state === 'Present'), 60_000, 'Present')
  // The token opens the hub, and stands nowhere else.
  expect(hub.asked.every((a) => a.authorization === `Bearer ${SECRET}`)).toBe(true)
  const written = [readFileSync(join(dir, 'agent.log'), 'utf8'), JSON.stringify([shard(), models()])].join()
  expect(written).not.toContain(SECRET)
})

/** A volume of its own takes root on Linux; elsewhere the fetcher's unit tests have to do. */
const canMount = process.platform === 'linux' && process.getuid?.() === 0
if (!canMount) console.warn('skipped: 1 test needs root on Linux, to mount a small volume')

test.runIf(canMount)(
  'a disk that fills up under a fetch is a condition, and the fetch goes on when there is room',
  async () => {
    const volume = join(dir, 'models')
    mkdirSync(volume)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'mctl-test', volume])
    try {
      hub.faults.set(BIG, [faults.slow(2 ** 18, 30)])
      startAgent()
      await until(() => models() !== undefined, 60_000, 'the agent has reported its Node')
      await want()
      await until(() => partBytes() > BIG_BYTES / 4, 60_000, 'a quarter is here')
      const ballast = join(volume, 'ballast')
      fillUp(ballast)
      const full = await until(
        () => (reasonOf(shard()?.status?.conditions, 'Ready') === 'DiskFull' ? shard() : undefined),
        60_000,
        'the shard says that the disk is full',
      )
      expect(full.status?.phase).toBe('Fetching')
      const pressed = () => (store.snapshot().get('Node', '', 'mini-1') as Node | undefined)?.status?.conditions
      await until(() => reasonOf(pressed(), 'DiskPressure') === 'NoRoomForModel', 60_000, 'DiskPressure')
      const had = partBytes()
      expect(had).toBeGreaterThan(BIG_BYTES / 4)

      rmSync(ballast)
      await until(() => shard()?.status?.phase === 'Prepared', 60_000, 'the shard is Prepared')
      expect(hub.asked.filter((a) => a.file === BIG).map((a) => a.from)).toEqual([0, had])
      expect(readFileSync(join(folder(), BIG)).equals(hub.files.get(BIG) ?? Buffer.alloc(0))).toBe(true)
      await until(() => reasonOf(pressed(), 'DiskPressure') !== 'NoRoomForModel', 60_000, 'no more DiskPressure')
    } finally {
      await kill()
      execFileSync('umount', [volume])
    }
  },
)

const reasonOf = (conditions: readonly Condition[] | undefined, type: string): string | undefined =>
  findCondition(conditions, type)?.reason

/** Takes every byte that the volume has left. */
function fillUp(path: string): void {
  const file = openSync(path, 'w')
  const piece = Buffer.alloc(2 ** 16)
  try {
    for (;;) writeSync(file, piece)
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  } finally {
    closeSync(file)
  }
}

test('a file that stays corrupt fails the shard with name, expected and found sha256', async () => {
  hub.faults.set(BIG, [faults.corrupt, faults.corrupt])
  startAgent()
  await want()
  const failed = await until(() => (shard()?.status?.phase === 'Failed' ? shard() : undefined), 60_000, 'Failed')
  expect(failed.status?.exit).toMatchObject({
    reason: 'ModelFileCorrupt',
    message: expect.stringMatching(
      new RegExp(`^${BIG} of hf://demo/tiny: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}`),
    ),
  })
})
