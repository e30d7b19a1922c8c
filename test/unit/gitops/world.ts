/** A store and the loop of Syncs over it, with real git and real files; only time is played. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Condition, Manifest } from '../../../src/api/meta.ts'
import { API_VERSION } from '../../../src/api/meta.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { ObjectOf } from '../../../src/api/objects.ts'
import type { Sync } from '../../../src/api/sync.ts'
import { spawnGit } from '../../../src/gitops/git.ts'
import type { RunGit } from '../../../src/gitops/git.ts'
import type { Gitops } from '../../../src/gitops/loop.ts'
import { startGitops } from '../../../src/gitops/loop.ts'
import type { SourceReader } from '../../../src/gitops/reader.ts'
import { createReader, prepareFolder } from '../../../src/gitops/reader.ts'
import type { Logger } from '../../../src/lib/log.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { applyObject, createObject, deleteObject, patchObject, setStatus } from '../../../src/store/objects.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { GitRepo } from '../../support/gitrepo.ts'
import { SeededRandom, VirtualClock } from '../../support/virtualclock.ts'

export class GitopsWorld {
  readonly clock: VirtualClock
  readonly dir = mkdtempSync(join(tmpdir(), 'mctl-gitops-'))
  readonly repo = new GitRepo(join(this.dir, 'repo'))
  readonly store: Store
  /** Every call of git, as it was made. */
  readonly calls: Parameters<RunGit>[0][] = []
  #gitops: Gitops | undefined
  #serial = 0

  private constructor(clock: VirtualClock, store: Store) {
    this.clock = clock
    this.store = store
  }

  static async start(log: Logger = silentLogger): Promise<GitopsWorld> {
    const clock = new VirtualClock()
    const store = await openStore({ dataDir: ':memory:', clock, random: new SeededRandom(1), log: silentLogger })
    const world = new GitopsWorld(clock, store)
    world.startServer(log)
    return world
  }

  /** `reader` takes the place of git: for what git never says. */
  startServer(log: Logger = silentLogger, reader?: SourceReader): void {
    const dataDir = join(this.dir, 'data')
    const { home } = prepareFolder(dataDir)
    const spawned = spawnGit({ clock: this.clock, env: { PATH: process.env['PATH'] ?? '' }, home })
    const git: RunGit = (call) => {
      this.calls.push(call)
      return spawned(call)
    }
    const doors = { store: this.store, clock: this.clock, random: new SeededRandom(2), log }
    this.#gitops = startGitops({ ...doors, reader: reader ?? createReader({ dataDir, clock: this.clock, git }) })
  }

  async stopServer(): Promise<void> {
    await this.#gitops?.stop()
    this.#gitops = undefined
  }

  async stop(): Promise<void> {
    await this.stopServer()
    await this.store.close()
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 })
  }

  hint(name = 'studio'): void {
    this.#gitops?.hint(name)
  }

  /** Lets time pass in steps, and everything that is set off come to its end. */
  async advance(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 500) {
      await this.clock.advance(Math.min(500, left))
      await this.#idle()
    }
  }

  async #idle(): Promise<void> {
    let isIdle = false
    const idle = (this.#gitops?.idle() ?? Promise.resolve()).then(() => (isIdle = true))
    // A reading of a directory waits by the clock.
    while (!isIdle) {
      await Promise.race([idle, new Promise((done) => setTimeout(done, 20))])
      if (!isIdle) await this.clock.advance(100)
    }
  }

  /** Follows the repository (or what `spec` says), and comes to rest. */
  async follow(spec: Readonly<Record<string, unknown>> = {}, name = 'studio', git: object = {}): Promise<void> {
    const source = { git: { url: this.repo.url, ...git } }
    await this.create({ apiVersion: API_VERSION, kind: 'Sync', metadata: { name }, spec: { source, ...spec } })
    await this.settle()
  }

  async settle(): Promise<void> {
    await this.advance(1_500)
  }

  /** `mctl sync now`: the source is looked at, and what follows from it is done. */
  async now(name = 'studio'): Promise<void> {
    await this.annotate({ 'mctl.dev/sync-requested': `r${++this.#serial}` }, name)
  }

  async annotate(annotations: Readonly<Record<string, string>>, name = 'studio'): Promise<void> {
    await this.patch('Sync', name, { metadata: { annotations } })
    await this.settle()
  }

  async patch(kind: keyof ObjectOf, name: string, patch: unknown, fieldManager = 'mctl'): Promise<void> {
    const namespace = kind === 'ModelDeployment' ? 'default' : ''
    await this.store.transact((tx) => patchObject(tx, { kind, namespace, name }, 'merge', patch, { fieldManager }))
    await this.settle()
  }

  async delete(kind: keyof ObjectOf, name: string): Promise<void> {
    const namespace = kind === 'ModelDeployment' ? 'default' : ''
    await this.store.transact((tx) => deleteObject(tx, { kind, namespace, name }))
    await this.settle()
  }

  create(manifest: Manifest): Promise<unknown> {
    return this.store.transact((tx) => createObject(tx, manifest, { fieldManager: 'mctl' }))
  }

  apply(manifest: Manifest, fieldManager = 'mctl', force = false): Promise<unknown> {
    return this.store.transact((tx) => applyObject(tx, manifest, { fieldManager, force }))
  }

  /** The deployment's controller, played: it is Ready, or not. */
  async ready(name: string, status: 'True' | 'False' = 'True'): Promise<void> {
    await this.store.transact((tx) => {
      const object = tx.get('ModelDeployment', 'default', name)
      if (object === undefined) throw new Error(`there is no ${name}`)
      const condition = { type: 'Ready', status, reason: 'Played', message: 'played' }
      const conditions: Condition[] = [{ ...condition, lastTransitionTime: '2026-01-01T00:00:00Z' }]
      setStatus(tx, object, { ...object.status, observedGeneration: object.metadata.generation, conditions })
    })
    await this.settle()
  }

  /** Deleted deployments go: there are no processes that would have to end first. */
  async release(): Promise<void> {
    await this.store.transact((tx) => {
      for (const object of tx.list('ModelDeployment'))
        if (object.metadata.deletionTimestamp !== undefined)
          tx.remove({ kind: 'ModelDeployment', namespace: 'default', name: object.metadata.name })
    })
    await this.settle()
  }

  sync(name = 'studio'): Sync {
    const sync = this.store.snapshot().get('Sync', '', name)
    if (sync === undefined) throw new Error(`there is no Sync ${name}`)
    return sync
  }

  condition(type: string, name = 'studio'): Condition | undefined {
    return this.sync(name).status?.conditions?.find((one) => one.type === type)
  }

  /** `True Synced`, `False InvalidManifests`. */
  readiness(name = 'studio'): string {
    const { status, reason } = this.condition('Ready', name) ?? { status: 'none', reason: '' }
    return `${status} ${reason}`
  }

  deployment(name: string): ModelDeployment | undefined {
    return this.store.snapshot().get('ModelDeployment', 'default', name)
  }

  /** Names of deployments that nobody has deleted. */
  deployments(): readonly string[] {
    const living = this.store
      .snapshot()
      .list('ModelDeployment')
      .filter((o) => o.metadata.deletionTimestamp === undefined)
    return living.map((o) => o.metadata.name)
  }

  inventory(name = 'studio'): readonly string[] {
    return (this.sync(name).status?.inventory ?? []).map((entry) => entry.name)
  }

  events(name = 'studio'): readonly string[] {
    return this.store
      .snapshot()
      .list('Event')
      .filter((event) => event.involvedObject.name === name)
      .map((event) => `${event.reason}: ${event.message}`)
  }
}
