/**
 * The store against a Map and a list of changes: whatever is done to it in whatever order, it holds the same objects,
 * tells the same changes, and its revisions only rise.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isOpError } from '../../../src/lib/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store, WatchFrame } from '../../../src/store/store.ts'
import { putModel, told } from '../../support/stores.ts'
import { SeededRandom, settle, VirtualClock } from '../../support/virtualclock.ts'

interface Told {
  readonly revision: number
  readonly what: string
}

/** What should be true, in the simplest words. */
interface Model {
  readonly objects: Map<string, string>
  readonly log: Told[]
  compacted: number
  revision: number
}

interface Reader {
  readonly seen: Told[]
  readonly stop: AbortController
  readonly reading: Promise<void>
}

class Real {
  readonly #dataDir: string
  readonly #random = new SeededRandom(1)
  readonly readers: Reader[] = []
  store: Store

  private constructor(dataDir: string, store: Store) {
    this.#dataDir = dataDir
    this.store = store
  }

  static async open(): Promise<Real> {
    const dataDir = mkdtempSync(join(tmpdir(), 'mctl-model-'))
    return new Real(dataDir, await Real.#openIn(dataDir, new SeededRandom(7)))
  }

  static #openIn(dataDir: string, random: SeededRandom): Promise<Store> {
    return openStore({ dataDir, clock: new VirtualClock(), random, log: silentLogger, revisionBlock: 20 })
  }

  async reopen(): Promise<void> {
    for (const { stop } of this.readers.splice(0)) stop.abort()
    await this.store.close()
    this.store = await Real.#openIn(this.#dataDir, this.#random)
  }

  async close(): Promise<void> {
    await this.store.close()
    rmSync(this.#dataDir, { recursive: true, force: true })
  }

  read(from: number): Reader {
    const stop = new AbortController()
    const seen: Told[] = []
    const frames = async () => {
      for await (const frame of this.store.watch({ from, signal: stop.signal })) seen.push(asTold(frame))
    }
    return { seen, stop, reading: frames() }
  }
}

const asTold = (frame: WatchFrame): Told => ({ revision: frame.revision, what: told(frame) })
const since = (model: Model, revision: number) => model.log.filter((change) => change.revision > revision)

/** Several puts and removals in one transaction, which may fail at its end. */
class Write implements fc.AsyncCommand<Model, Real> {
  readonly steps: readonly (readonly [name: string, value: string | undefined])[]
  readonly fails: boolean
  constructor(steps: readonly (readonly [string, string | undefined])[], fails: boolean) {
    this.steps = steps
    this.fails = fails
  }
  check = () => true
  async run(model: Model, { store }: Real): Promise<void> {
    const next = new Map(model.objects)
    const expected: string[] = []
    for (const [name, value] of this.steps) {
      const old = next.get(name)
      if (value === undefined ? old === undefined : old === value) continue
      if (value === undefined) expected.push(`DELETED ${name}@${old}`)
      else expected.push(`${old === undefined ? 'ADDED' : 'MODIFIED'} ${name}@${value}`)
      if (value === undefined) next.delete(name)
      else next.set(name, value)
    }
    const done = store.transact((tx) => {
      for (const [name, value] of this.steps) {
        if (value !== undefined) putModel(tx, name, value)
        else if (tx.get('Model', '', name) !== undefined) tx.remove({ kind: 'Model', namespace: '', name })
      }
      if (this.fails) throw new Error('told to fail')
    })
    if (this.fails) return expect(done).rejects.toThrow('told to fail')
    await done
    model.objects.clear()
    for (const [name, value] of next) model.objects.set(name, value)
    for (const what of expected) model.log.push({ revision: ++model.revision, what })
    expect(store.snapshot().revision).toBe(model.revision)
  }
  toString = () => `write(${JSON.stringify(this.steps)}${this.fails ? ', fails' : ''})`
}

class List implements fc.AsyncCommand<Model, Real> {
  check = () => true
  run(model: Model, { store }: Real): Promise<void> {
    const listed = store
      .snapshot()
      .list('Model')
      .map((o) => [o.metadata.name, o.spec.revision])
    expect(listed).toEqual([...model.objects].sort(([a], [b]) => (a < b ? -1 : 1)))
    for (const [name, value] of model.objects)
      expect(store.snapshot().get('Model', '', name)?.spec.revision).toBe(value)
    return Promise.resolve()
  }
  toString = () => 'list()'
}

/** A watch from somewhere in the past, read to the present and left running. */
class Resume implements fc.AsyncCommand<Model, Real> {
  readonly back: number
  constructor(back: number) {
    this.back = back
  }
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    const known = [0, model.compacted, ...model.log.map((change) => change.revision), model.revision]
    const from = known.at(-1 - (this.back % known.length)) as number
    const reader = real.read(from)
    const ended = reader.reading.then(
      () => 'ended',
      (error: unknown) => (isOpError(error, 'Expired') ? 'Expired' : error),
    )
    await settle()
    if (from < model.compacted) return expect(await ended).toBe('Expired')
    expect(reader.seen).toEqual(since(model, from))
    real.readers.push(reader)
  }
  toString = () => `resume(${this.back})`
}

/** Every watch that is still running has told exactly what happened since it began. */
class CheckReaders implements fc.AsyncCommand<Model, Real> {
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    await settle()
    for (const { seen } of real.readers) {
      const [first] = seen
      if (first !== undefined) expect(seen).toEqual(since(model, first.revision - 1))
    }
  }
  toString = () => 'checkReaders()'
}

class Compact implements fc.AsyncCommand<Model, Real> {
  readonly keep: number
  constructor(keep: number) {
    this.keep = keep
  }
  check = () => true
  async run(model: Model, { store }: Real): Promise<void> {
    const upTo = model.log.at(-1 - this.keep)?.revision ?? 0
    await store.compact(upTo)
    model.compacted = Math.max(model.compacted, upTo)
    expect(store.stats()).toMatchObject({
      compactedRevision: model.compacted,
      logRows: since(model, model.compacted).length,
    })
  }
  toString = () => `compact(keep ${this.keep})`
}

class Reopen implements fc.AsyncCommand<Model, Real> {
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    const { incarnation } = real.store
    await real.reopen()
    expect(real.store.incarnation).not.toBe(incarnation)
    expect(real.store.snapshot().revision).toBeGreaterThan(model.revision)
    model.revision = real.store.snapshot().revision
  }
  toString = () => 'reopen()'
}

const names = fc.constantFrom('a', 'b', 'c', 'd')
const values = fc.option(fc.constantFrom('1', '2', '3'), { nil: undefined, freq: 3 })
const writes = fc
  .tuple(fc.array(fc.tuple(names, values), { minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 5 }))
  .map(([steps, luck]) => new Write(steps, luck === 0))

const commands = fc.commands(
  [
    writes,
    writes,
    writes,
    fc.constant(new List()),
    fc.nat({ max: 30 }).map((back) => new Resume(back)),
    fc.constant(new CheckReaders()),
    fc.nat({ max: 10 }).map((keep) => new Compact(keep)),
    fc.constant(new Reopen()),
  ],
  { maxCommands: 40 },
)

test('whatever is done in whatever order, the store is a map with a log', { timeout: 60_000 }, async () => {
  const property = fc.asyncProperty(commands, async (sequence) => {
    const real = await Real.open()
    const model: Model = { objects: new Map(), log: [], compacted: 0, revision: real.store.snapshot().revision }
    try {
      await fc.asyncModelRun(() => ({ model, real }), [...sequence, new CheckReaders(), new List()])
    } finally {
      for (const { stop } of real.readers) stop.abort()
      await real.close()
    }
  })
  await fc.assert(property, { numRuns: 40 })
})
