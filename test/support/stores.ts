/** Stores for tests: in memory or in a folder of their own, on a virtual clock and seeded chance. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Manifest, MctlObject } from '../../src/api/meta.ts'
import { API_VERSION } from '../../src/api/meta.ts'
import type { ObjectOf } from '../../src/api/objects.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { OpenOptions } from '../../src/store/sqlite.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store, Tx, WatchFrame, WatchOptions } from '../../src/store/store.ts'
import { SeededRandom, VirtualClock } from './virtualclock.ts'

export interface StoreUnderTest {
  readonly store: Store
  readonly clock: VirtualClock
}

let seed = 0

/** A store that is closed when the test ends. */
export async function aStore(options: Partial<OpenOptions> = {}): Promise<StoreUnderTest> {
  const clock = options.clock instanceof VirtualClock ? options.clock : new VirtualClock()
  const random = new SeededRandom(++seed)
  const store = await openStore({ dataDir: ':memory:', random, log: silentLogger, ...options, clock })
  onTestFinished(() => store.close())
  return { store, clock }
}

/** A folder that is removed when the test ends. */
export function aFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mctl-store-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The smallest manifest there is: a Model's shape without a shape. */
export const aModelManifest = (name: string, revision = 'main'): Manifest & { kind: 'Model' } => ({
  apiVersion: API_VERSION,
  kind: 'Model',
  metadata: { name },
  spec: { source: 'hf://org/name', revision },
})

export const aDeploymentManifest = (
  name: string,
  spec: object = {},
  metadata: object = {},
): Manifest & { kind: 'ModelDeployment' } => ({
  apiVersion: API_VERSION,
  kind: 'ModelDeployment',
  metadata: { name, ...metadata },
  spec: { model: { source: 'hf://org/name' }, ...spec },
})

/** Any object as the raw door of the store takes it. */
export const aRawModel = (tx: Tx, name: string, revision: string, uid = tx.newUid()): ObjectOf['Model'] => ({
  apiVersion: API_VERSION,
  kind: 'Model',
  metadata: { name, uid, resourceVersion: '', generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' },
  spec: { revision },
})

/** Writes a raw Model under this name, new or in place of the old one. */
export function putModel(tx: Tx, name: string, revision: string): ObjectOf['Model'] {
  return tx.put(aRawModel(tx, name, revision, tx.get('Model', '', name)?.metadata.uid))
}

/** A watch with its frames so far; `until` waits for as many. */
export class Watching {
  readonly frames: WatchFrame[] = []
  readonly ended: Promise<unknown>
  readonly #stop = new AbortController()
  #wake: (() => void) | undefined

  constructor(store: Store, options: Omit<WatchOptions, 'signal'>) {
    this.ended = this.#read(store, options)
    onTestFinished(() => this.stop())
  }

  async until(frames: number): Promise<readonly WatchFrame[]> {
    while (this.frames.length < frames) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.frames
  }

  stop(): void {
    this.#stop.abort()
  }

  async #read(store: Store, options: Omit<WatchOptions, 'signal'>): Promise<unknown> {
    try {
      for await (const frame of store.watch({ ...options, signal: this.#stop.signal })) {
        this.frames.push(frame)
        this.#wake?.()
      }
      return undefined
    } catch (error) {
      return error
    }
  }
}

/** `ADDED a@main`: a frame as a word. */
export const told = (frame: WatchFrame): string =>
  frame.type === 'BOOKMARK'
    ? `BOOKMARK${frame.initialEventsEnd ? ' end of initial' : ''}`
    : `${frame.type} ${frame.object.metadata.name}@${String((frame.object.spec as { revision?: string }).revision)}`

export const revisionOf = (object: MctlObject): number => Number(object.metadata.resourceVersion)
