/** A store whose process is killed, or whose machine loses power, keeps what it promised. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'
import { SeededRandom } from '../support/virtualclock.ts'

const writerScript = resolve(import.meta.dirname, '../support/storewriter.ts')
const folders: string[] = []
const children: ChildProcess[] = []

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

interface Ack {
  readonly name: string
  readonly value: number
  readonly revision: number
}

/** A process that writes, and every acknowledgement that it got out in whole lines. */
class Writer {
  readonly #child: ChildProcess
  #output = ''

  constructor(dataDir: string) {
    const argv = ['--import', 'tsx', writerScript, dataDir]
    this.#child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()))
    children.push(this.#child)
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  async acked(count: number): Promise<void> {
    while (this.acks().length < count) {
      if (this.#child.exitCode !== null) throw new Error(`the writer ended with code ${this.#child.exitCode}`)
      await new Promise((wake) => setTimeout(wake, 2))
    }
  }

  async kill(): Promise<readonly Ack[]> {
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGKILL')
    await closed
    return this.acks()
  }

  acks(): readonly Ack[] {
    return this.#output
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split(' '))
      .map(([, name = '', value, revision]) => ({ name, value: Number(value), revision: Number(revision) }))
  }
}

function aFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mctl-kill-'))
  folders.push(folder)
  return folder
}

const open = (dataDir: string): Promise<Store> =>
  openStore({ dataDir, clock: systemClock, random: systemRandom, log: silentLogger, revisionBlock: 200 })

const valueOf = (store: Store, name: string): number =>
  Number(store.snapshot().get('Model', '', name)?.spec.revision ?? 0)

/** The state that the log alone tells, from the very first change on. */
async function replayed(store: Store): Promise<ReadonlyMap<string, number>> {
  const values = new Map<string, number>()
  const stop = new AbortController()
  const { logRows } = store.stats()
  let rows = 0
  if (logRows === 0) return values
  for await (const frame of store.watch({ from: 0, signal: stop.signal })) {
    if (frame.type === 'BOOKMARK') continue
    const { name } = frame.object.metadata
    const value = Number((frame.object.spec as { revision: string }).revision)
    expect(value).toBe((values.get(name) ?? 0) + 1)
    values.set(name, value)
    if (++rows === logRows) stop.abort()
  }
  return values
}

test('kill -9 at any moment loses no acknowledged write and uses no revision twice', async () => {
  const dataDir = aFolder()
  const chance = new SeededRandom(Date.now())
  const used = new Set<number>()
  let highest = 0
  for (let round = 0; round < 8; round++) {
    const writer = new Writer(dataDir)
    await writer.acked(1 + chance.below(round % 2 === 0 ? 50 : 1_500))
    const acks = await writer.kill()
    for (const { revision } of acks) {
      expect(revision).toBeGreaterThan(highest)
      expect(used.has(revision)).toBe(false)
      used.add(revision)
    }
    highest = Math.max(highest, ...acks.map((ack) => ack.revision))
    const store = await open(dataDir)
    expect(store.snapshot().revision).toBeGreaterThanOrEqual(highest)
    for (const { name, value } of acks) expect(valueOf(store, name)).toBeGreaterThanOrEqual(value)
    for (const [name, value] of await replayed(store)) expect(valueOf(store, name)).toBe(value)
    await store.close()
  }
})

test('a living owner is named to whoever wants its data directory; a killed one is followed at once', async () => {
  const dataDir = aFolder()
  const writer = new Writer(dataDir)
  await writer.acked(1)
  await expect(open(dataDir)).rejects.toThrow(`process ${writer.pid} is using it`)
  await writer.kill()
  await (await open(dataDir)).close()
})

test('a WAL that ends anywhere leaves a clean beginning, and revisions never go backwards', async () => {
  const dataDir = aFolder()
  const writer = new Writer(dataDir)
  await writer.acked(700)
  const acks = await writer.kill()
  const highest = Math.max(...acks.map((ack) => ack.revision))
  const walBytes = statSync(join(dataDir, 'mctl.db-wal')).size
  const chance = new SeededRandom(Date.now())
  for (let round = 0; round < 12; round++) {
    const copy = aFolder()
    copyFileSync(join(dataDir, 'mctl.db'), join(copy, 'mctl.db'))
    copyFileSync(join(dataDir, 'mctl.db-wal'), join(copy, 'mctl.db-wal'))
    truncateSync(join(copy, 'mctl.db-wal'), round === 0 ? 0 : chance.below(walBytes))
    const store = await open(copy)
    const values = await replayed(store)
    expect(
      store
        .snapshot()
        .list('Model')
        .map((o) => [o.metadata.name, Number(o.spec.revision)]),
    ).toEqual([...values].sort())
    const made = await store.transact((tx) => {
      const metadata = { name: 'new', uid: tx.newUid(), resourceVersion: '', generation: 1, creationTimestamp: 'now' }
      return tx.put({ apiVersion: 'v1', kind: 'Model', metadata, spec: {} })
    })
    expect(Number(made.metadata.resourceVersion)).toBeGreaterThan(highest)
    await store.close()
  }
})
