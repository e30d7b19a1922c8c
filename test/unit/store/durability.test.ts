import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { isOpError } from '../../../src/lib/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { restore } from '../../../src/store/backup.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { aFolder, aStore, putModel, revisionOf, told, Watching } from '../../support/stores.ts'
import { SeededRandom, VirtualClock } from '../../support/virtualclock.ts'

let seed = 1_000
const open = (dataDir: string, options: object = {}) =>
  openStore({ dataDir, clock: new VirtualClock(), random: new SeededRandom(++seed), log: silentLogger, ...options })
const write = (store: Store, name: string, value: string) => store.transact((tx) => putModel(tx, name, value))

describe('a store that is opened again', () => {
  test('has everything, in the same cluster and under a new incarnation, and goes on above the old revisions', async () => {
    const dataDir = aFolder()
    const first = await open(dataDir)
    await write(first, 'a', '1')
    const last = await write(first, 'b', '1')
    await first.transact((tx) => tx.remove({ kind: 'Model', namespace: '', name: 'a' }))
    await first.close()
    const { store } = await aStore({ dataDir })
    expect(store.snapshot().list('Model')).toEqual([last])
    expect(store.clusterUid).toBe(first.clusterUid)
    expect(store.incarnation).not.toBe(first.incarnation)
    expect(revisionOf(await write(store, 'c', '1'))).toBeGreaterThan(revisionOf(last) + 1)
  })

  test('replays its old log', async () => {
    const dataDir = aFolder()
    const first = await open(dataDir)
    const from = revisionOf(await write(first, 'a', '1'))
    await write(first, 'a', '2')
    await first.close()
    const { store } = await aStore({ dataDir })
    await write(store, 'a', '3')
    expect((await new Watching(store, { from }).until(2)).map(told)).toEqual(['MODIFIED a@2', 'MODIFIED a@3'])
  })

  test('without its WAL has lost writes but uses none of their revisions again, and says so to who saw them', async () => {
    const dataDir = aFolder()
    const first = await open(dataDir, { revisionBlock: 50 })
    const seen: number[] = []
    for (let i = 0; i < 180; i++) seen.push(revisionOf(await write(first, 'a', String(i))))
    const copy = aFolder()
    copyFileSync(join(dataDir, 'mctl.db'), join(copy, 'mctl.db'))
    await first.close()
    const { store } = await aStore({ dataDir: copy, revisionBlock: 50 })
    const lost = seen.at(-1) as number
    expect(store.snapshot().get('Model', '', 'a')?.spec.revision).not.toBe('179')
    expect(revisionOf(await write(store, 'b', '1'))).toBeGreaterThan(lost)
    expect(isOpError(await new Watching(store, { from: lost }).ended, 'Expired')).toBe(true)
  })
})

describe('the data directory', () => {
  test('is closed to others, and so are its files', async () => {
    const dataDir = join(aFolder(), 'new', 'data')
    const { store } = await aStore({ dataDir })
    await write(store, 'a', '1')
    await store.backup(join(dataDir, 'copy.db'))
    expect(statSync(dataDir).mode & 0o777).toBe(0o700)
    const modes = readdirSync(dataDir).map((file) => [file, statSync(join(dataDir, file)).mode & 0o777])
    expect(modes.map(([file]) => file)).toContain('mctl.db-wal')
    expect(modes.filter(([, mode]) => mode !== 0o600)).toEqual([])
  })

  test('that was open to others is closed; one that all users share is refused', async () => {
    const dataDir = join(aFolder(), 'open')
    mkdirSync(dataDir, { mode: 0o755 })
    await aStore({ dataDir })
    expect(statSync(dataDir).mode & 0o777).toBe(0o700)
    await expect(open('/tmp')).rejects.toThrow(/shared by all users/)
  })

  test('has one owner: a second is refused, and told which process it is', async () => {
    const dataDir = aFolder()
    const { store } = await aStore({ dataDir })
    const refused = await open(dataDir).catch((error: unknown) => error)
    expect(isOpError(refused, 'Unavailable')).toBe(true)
    expect(String(refused)).toContain(`process ${process.pid} is using it`)
    await store.close()
    await aStore({ dataDir })
  })

  test('with the store of a newer mctl is refused and left as it is', async () => {
    const dataDir = aFolder()
    await (await open(dataDir)).close()
    const db = new Database(join(dataDir, 'mctl.db'))
    db.prepare("INSERT INTO migrations(version, name, at_ms) VALUES (99, 'future', 0)").run()
    db.close()
    const refused = await open(dataDir).catch((error: unknown) => error)
    expect(String(refused)).toMatch(/its schema has version 99, this mctl knows version 1: a newer mctl has written it/)
  })

  test('with a file that is no store is refused with the file named', async () => {
    const dataDir = aFolder()
    writeFileSync(join(dataDir, 'mctl.db'), 'no database at all, but long enough to be looked at\n'.repeat(50))
    await expect(open(dataDir)).rejects.toThrow(join(dataDir, 'mctl.db'))
    truncateSync(join(dataDir, 'mctl.db'))
    await aStore({ dataDir })
  })
})

describe('a commit that the disk refuses', () => {
  test('fails every transaction in it, leaves no trace, and the next one goes on', async () => {
    const dataDir = aFolder()
    const { store } = await aStore({ dataDir })
    const kept = await write(store, 'a', '1')
    const watch = new Watching(store, { from: 'initial' })
    await watch.until(2)
    const stranger = new Database(join(dataDir, 'mctl.db'))
    stranger.exec('BEGIN IMMEDIATE')
    const results = await Promise.allSettled([write(store, 'a', '2'), write(store, 'b', '1')])
    stranger.exec('ROLLBACK')
    stranger.close()
    expect(results.map((r) => r.status === 'rejected' && isOpError(r.reason, 'Unavailable'))).toEqual([true, true])
    expect(store.snapshot().list('Model')).toEqual([kept])
    expect(store.snapshot().revision).toBe(revisionOf(kept))
    await write(store, 'a', '3')
    expect((await watch.until(3)).map(told)).toEqual(['ADDED a@1', 'BOOKMARK end of initial', 'MODIFIED a@3'])
  })
})

describe('a backup', () => {
  test('is a whole store, taken while writes go on, and goes on far above the revisions that it was taken from', async () => {
    const dataDir = aFolder()
    const { store } = await aStore({ dataDir })
    const first = await write(store, 'a', '1')
    const copy = aFolder()
    const [, later] = await Promise.all([store.backup(join(copy, 'mctl.db')), write(store, 'b', '1')])
    for (let i = 0; i < 20; i++) await write(store, 'c', String(i))
    const restored = (await aStore({ dataDir: copy })).store
    expect(restored.snapshot().get('Model', '', 'a')).toEqual(first)
    expect(restored.clusterUid).toBe(store.clusterUid)
    expect(revisionOf(await write(restored, 'd', '1'))).toBeGreaterThan(revisionOf(later) + 1e9)
    expect(isOpError(await new Watching(restored, { from: revisionOf(first) }).ended, 'Expired')).toBe(true)
    expect(existsSync(join(copy, 'mctl.db.partial'))).toBe(false)
  })

  test('bumps revisions once, not at each later start', async () => {
    const { store } = await aStore({ dataDir: aFolder() })
    const copy = aFolder()
    await store.backup(join(copy, 'mctl.db'))
    const restored = await open(copy)
    const { revision } = restored.snapshot()
    await restored.close()
    const again = (await aStore({ dataDir: copy })).store
    expect(again.snapshot().revision - revision).toBeLessThan(1e6)
  })
})

describe('a restored backup', () => {
  const HOUR_MS = 3_600_000

  test('begins above all that an earlier restore of it gave out, also when the clock was set back in between', async () => {
    const clock = new VirtualClock()
    const { store } = await aStore({ dataDir: aFolder(), clock })
    await write(store, 'a', '1')
    const backup = aFolder()
    await store.backup(join(backup, 'mctl.db'))
    let last = 0
    for (const byMs of [1, HOUR_MS, -2 * HOUR_MS, -1, 0]) {
      clock.jumpWall(byMs)
      const dataDir = aFolder()
      restore(backup, dataDir, clock.nowMs())
      const restored = await open(dataDir, { clock })
      expect(restored.snapshot().revision).toBeGreaterThan(last)
      for (let i = 0; i < 20; i++) last = revisionOf(await write(restored, 'a', String(i)))
      expect(Number.isSafeInteger(last)).toBe(true)
      await restored.close()
    }
  })

  test('of a copy that was copied by hand goes on by the time of day', async () => {
    const clock = new VirtualClock()
    const { store } = await aStore({ dataDir: aFolder(), clock })
    const [backup, byHand] = [aFolder(), aFolder()]
    await store.backup(join(backup, 'mctl.db'))
    copyFileSync(join(backup, 'mctl.db'), join(byHand, 'mctl.db'))
    const dataDir = aFolder()
    restore(backup, dataDir, clock.nowMs())
    const first = await open(dataDir, { clock })
    const last = revisionOf(await write(first, 'a', '1'))
    await first.close()
    clock.jumpWall(10_000)
    expect((await aStore({ dataDir: byHand, clock })).store.snapshot().revision).toBeGreaterThan(last)
  })

  test('counts exactly under a clock that is centuries ahead, and never below what it knows', async () => {
    const { store } = await aStore({ dataDir: aFolder(), clock: new VirtualClock(Date.parse('2900-01-01T00:00:00Z')) })
    const [backup, dataDir] = [aFolder(), aFolder()]
    await store.backup(join(backup, 'mctl.db'))
    restore(backup, dataDir, Date.parse('2900-01-01T00:00:00Z'))
    const ahead = await open(dataDir)
    const again = aFolder()
    await ahead.backup(join(again, 'mctl.db'))
    const { revision } = ahead.snapshot()
    await ahead.close()
    const next = aFolder()
    restore(again, next, 0)
    const { store: restored } = await aStore({ dataDir: next })
    expect(restored.snapshot().revision).toBeGreaterThan(revision + 1e8)
    expect(Number.isSafeInteger(revisionOf(await write(restored, 'a', '1')))).toBe(true)
  })
})

test('a new store is the same cluster from its first moment on, whatever becomes of its WAL', async () => {
  const dataDir = aFolder()
  const first = await open(dataDir)
  const copy = aFolder()
  copyFileSync(join(dataDir, 'mctl.db'), join(copy, 'mctl.db'))
  await first.close()
  expect((await aStore({ dataDir: copy })).store.clusterUid).toBe(first.clusterUid)
})

describe('compaction', () => {
  const fill = async (store: Store, count: number) => {
    for (let i = 0; i < count; i += 400)
      await store.transact((tx) => {
        for (let j = i; j < Math.min(count, i + 400); j++) putModel(tx, 'a', String(j))
      })
  }

  test('forgets the log and keeps the state', async () => {
    const { store } = await aStore()
    await fill(store, 1_300)
    const { revision } = store.snapshot()
    await store.compact(revision - 10)
    expect(store.stats()).toEqual({ revision, compactedRevision: revision - 10, objects: 1, logRows: 10 })
    expect(store.snapshot().get('Model', '', 'a')?.spec.revision).toBe('1299')
  })

  test('lets other work run between its slices', async () => {
    const { store } = await aStore()
    await fill(store, 2_000)
    let done = false
    const compacting = store.compact(store.snapshot().revision).then(() => (done = true))
    await write(store, 'b', '1')
    expect(done).toBe(false)
    await compacting
  })

  test('survives a restart', async () => {
    const dataDir = aFolder()
    const first = await open(dataDir)
    await fill(first, 20)
    const { revision } = first.snapshot()
    await first.compact(revision - 5)
    await first.close()
    const { store } = await aStore({ dataDir })
    expect(store.stats()).toMatchObject({ compactedRevision: revision - 5, logRows: 5 })
    expect(isOpError(await new Watching(store, { from: revision - 6 }).ended, 'Expired')).toBe(true)
  })

  test('by itself keeps what is young and what is among the last rows', async () => {
    const { store, clock } = await aStore({ keep: { rows: 100, ms: 3_600_000 }, upkeepMs: 60_000 })
    await fill(store, 1_000)
    await clock.advance(61_000)
    expect(store.stats().logRows).toBe(1_000)
    await clock.advance(3_600_000)
    expect(store.stats().logRows).toBe(100)
    await fill(store, 150)
    await clock.advance(120_000)
    expect(store.stats().logRows).toBe(150)
  })
})
