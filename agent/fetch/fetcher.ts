/**
 * Brings a model's files here, whole and verified, whatever breaks. One job per shard that wants a model; jobs of one
 * folder come one after the other, also those of other agents of this machine.
 */
import type { ModelFile } from '../../src/api/model.ts'
import type { Shard } from '../../src/api/shard.ts'
import { sleep } from '../../src/lib/clock.ts'
import { isOpError, messageOf } from '../../src/lib/errors.ts'
import { Claims } from './claims.ts'
import type { FetchDoors } from './doors.ts'
import { diskFullOf, FetchFailure } from './doors.ts'
import type { Origin } from './download.ts'
import { download } from './download.ts'
import { ModelFolder, folderOf, isFetched } from './folder.ts'
import type { WantedModel } from './needed.ts'
import { INDEX, checkWanted, neededFiles, smallFiles, totalBytes, wantedModel } from './needed.ts'
import { PeerView, Rates } from './peers.ts'
import type { RoomDoors } from './room.ts'
import { makeRoom, touch } from './room.ts'
import { Sourcing } from './sourcing.ts'
import { markUsed, unmarkUsed } from './uses.ts'

export interface FetchProgress {
  readonly doneBytes: number
  readonly totalBytes: number
}

/** How far the model of one shard is. */
export type FetchState =
  | { readonly kind: 'Fetching'; readonly progress?: FetchProgress }
  /** There is no room; goes on by itself. */
  | { readonly kind: 'DiskFull'; readonly message: string; readonly progress?: FetchProgress }
  | { readonly kind: 'Failed'; readonly reason: string; readonly message: string }
  | { readonly kind: 'Done'; readonly dir: string }

/** The agent's view of fetching. */
export interface Fetcher {
  /** By shard uid; a shard that is not in it has not begun. */
  states(): ReadonlyMap<string, FetchState>
  /** Begins or goes on; returns at once. Only for shards with a wantedModel. */
  begin(shard: Shard): void
  /** Gives up what nobody wants any more. `usedDirs`: model folders of shards that are here. */
  keepOnly(isWanted: (shardUid: string) => boolean, usedDirs: readonly string[]): void
  onChange(listener: () => void): () => void
  /** Resolves when nothing is written any more; what was fetched stays. */
  close(): Promise<void>
}

export const FILES_AT_ONCE = 4
const LOCK_POLL_MS = 1_000
const ROOM_POLL_MS = 10_000
/** Progress is told in steps of at least this share. */
const TOLD_SHARE = 0.01

interface Job {
  readonly shardName: string
  readonly model: WantedModel
  readonly dir: string
  readonly control: AbortController
  readonly bytes: Map<string, number>
  state: FetchState
  toldBytes: number
  /** Files on their way to the disk itself. */
  settling: Promise<void>[]
  ended: Promise<void>
}

interface FileTask {
  readonly file: ModelFile
  /** Of the first request. */
  readonly origin: Origin
  readonly sourcing: Sourcing
  readonly signal: AbortSignal
  readonly progress: () => void
}

export class ModelFetcher implements Fetcher {
  /** What is being fetched, for the models door. */
  readonly claims = new Claims()
  readonly #doors: FetchDoors
  readonly #room: RoomDoors
  readonly #rates = new Rates()
  readonly #bench = new Map<string, number>()
  readonly #jobs = new Map<string, Job>()
  readonly #listeners = new Set<() => void>()
  /** The last job of each folder. */
  readonly #queues = new Map<string, Promise<void>>()
  #usedDirs: readonly string[] = []
  #marked: ReadonlySet<string> = new Set()
  #marking: Promise<void> = Promise.resolve()

  constructor(doors: FetchDoors) {
    this.#doors = doors
    this.#room = { ...doors, inUse: () => this.#inUse() }
  }

  states(): ReadonlyMap<string, FetchState> {
    return new Map([...this.#jobs].map(([uid, { state }]) => [uid, state]))
  }

  /** Folders that shards of this agent need, by name. */
  usedFolders(): readonly string[] {
    return [...this.#inUse()].sort()
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  begin(shard: Shard): void {
    const { uid, name } = shard.metadata
    const model = wantedModel(shard)
    if (model === undefined || this.#jobs.has(uid)) return
    const dir = folderOf(this.#doors.modelsDir, model)
    const job: Job = {
      shardName: name,
      model,
      dir,
      control: new AbortController(),
      bytes: new Map(),
      state: { kind: 'Fetching' },
      toldBytes: 0,
      settling: [],
      ended: Promise.resolve(),
    }
    this.#jobs.set(uid, job)
    const before = this.#queues.get(dir) ?? Promise.resolve()
    job.ended = before.then(() => this.#run(job))
    this.#queues.set(dir, job.ended)
    this.#tell()
  }

  keepOnly(isWanted: (shardUid: string) => boolean, usedDirs: readonly string[]): void {
    this.#usedDirs = usedDirs.filter((dir) => isFetched(this.#doors.modelsDir, dir))
    for (const [uid, job] of this.#jobs) {
      if (isWanted(uid)) continue
      job.control.abort()
      this.#jobs.delete(uid)
    }
    this.#mark()
  }

  async close(): Promise<void> {
    for (const job of this.#jobs.values()) job.control.abort()
    await Promise.all(this.#queues.values())
    await this.#marking
    await Promise.all([...this.#marked].map(unmarkUsed))
    await this.#doors.transfers.close()
  }

  #inUse(): ReadonlySet<string> {
    return new Set([...this.#usedDirs, ...[...this.#jobs.values()].map(({ dir }) => dir)])
  }

  /** Tells the other agents of this machine what this one needs; and ours, when the marks are there. */
  #mark(): void {
    const used = this.#inUse()
    const come = [...used].filter((dir) => !this.#marked.has(dir))
    const gone = [...this.#marked].filter((dir) => !used.has(dir))
    if (come.length + gone.length === 0) return
    this.#marked = used
    const leave = async (dir: string) => {
      await unmarkUsed(dir)
      await touch(dir, this.#doors.clock.nowMs())
    }
    this.#marking = this.#marking.then(async () => {
      await Promise.all([...come.map(markUsed), ...gone.map(leave)])
      this.#tell()
    })
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  #become(job: Job, state: FetchState): void {
    job.state = state
    this.#tell()
  }

  /** Never rejects: how it ended is the job's state. */
  async #run(job: Job): Promise<void> {
    const { log } = this.#doors
    const facts = { shard: job.shardName, source: job.model.source, commit: job.model.commit }
    try {
      job.control.signal.throwIfAborted()
      checkWanted(job.model)
      await this.#untilFetched(job, () => {
        log.info('model is here', { ...facts, dir: job.dir })
        this.#become(job, { kind: 'Done', dir: job.dir })
      })
    } catch (error) {
      if (job.control.signal.aborted) return
      const known = error instanceof FetchFailure || isOpError(error)
      const message = known ? error.message : `fetch ${job.model.source}: ${messageOf(error)}`
      log.warn('model not fetched', { ...facts, error: messageOf(error) })
      const reason = error instanceof FetchFailure ? error.reason : 'ModelFetchFailed'
      this.#become(job, { kind: 'Failed', reason, message })
    }
  }

  /**
   * Without room it waits; what is there stays and is gone on with. Done when every file is verified; the folder is
   * given free when they are on the disk itself, too.
   */
  async #untilFetched(job: Job, onDone: () => void): Promise<void> {
    const { signal } = job.control
    const { clock } = this.#doors
    for (;;) {
      const lock = this.#doors.lock(job.dir)
      if (lock !== undefined)
        try {
          await this.#fetchModel(job)
          return onDone()
        } catch (error) {
          const full = diskFullOf(error)
          if (full === undefined || signal.aborted) throw error
          this.#becomeFull(job, full.message)
        } finally {
          await Promise.all(job.settling.splice(0))
          lock.release()
        }
      await sleep(clock, lock === undefined ? LOCK_POLL_MS : ROOM_POLL_MS, signal)
      signal.throwIfAborted()
    }
  }

  #becomeFull(job: Job, message: string): void {
    if (job.state.kind !== 'DiskFull') this.#doors.log.warn('fetch waits for room', { shard: job.shardName, message })
    const { progress } = job.state as { progress?: FetchProgress }
    this.#become(job, { kind: 'DiskFull', message, ...(progress === undefined ? {} : { progress }) })
  }

  async #fetchModel(job: Job): Promise<void> {
    const { model } = job
    const folder = await ModelFolder.open(this.#doors.modelsDir, model, this.#doors.bootId)
    await markUsed(folder.dir)
    // How much the rank needs is known only when the index is here.
    await this.#fetchFiles(job, folder, smallFiles(model.files), () => {})
    const needed = neededFiles(model.files, model.stage, await folder.weightMap(INDEX))
    await this.#fetchFiles(job, folder, needed, (done, total) => this.#progress(job, done, total))
    await touch(folder.dir, this.#doors.clock.nowMs())
  }

  /** Makes every one of the files Verified, several at once. The first that fails ends the others. */
  async #fetchFiles(
    job: Job,
    folder: ModelFolder,
    files: readonly ModelFile[],
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): Promise<void> {
    const missing: ModelFile[] = []
    for (const file of files) {
      if (await this.#isHere(job, folder, file)) job.bytes.set(file.name, file.sizeBytes)
      else missing.push(file)
    }
    const total = totalBytes(files)
    const here = () => files.reduce((sum, file) => sum + (job.bytes.get(file.name) ?? 0), 0)
    if (missing.length === 0) return
    await makeRoom(this.#room, total - here())
    const failed = new AbortController()
    const signal = AbortSignal.any([job.control.signal, failed.signal])
    const progress = () => onProgress(here(), total)
    progress()
    const sourcing = this.#sourcing(job, missing, signal)
    const lane = async () => {
      for (let next = await sourcing.next(); next !== undefined; next = await sourcing.next())
        await this.#fetchFile(job, folder, { ...next, sourcing, signal, progress })
    }
    const lanes = Array.from({ length: Math.min(FILES_AT_ONCE, missing.length) }, () =>
      lane().catch((error: unknown) => {
        failed.abort(error)
        throw error
      }),
    )
    const ends = await Promise.allSettled(lanes)
    const broken = ends.find((end) => end.status === 'rejected')
    // All reject once one does; the first cause is the reason of the abort.
    if (broken !== undefined) throw failed.signal.reason ?? broken.reason
  }

  /** Verified, perhaps by reading it once more. What has become of a file that is not is told by `bytes`. */
  async #isHere(job: Job, folder: ModelFolder, file: ModelFile): Promise<boolean> {
    const state = await folder.state(file)
    if (state.kind === 'Verified') return true
    job.bytes.set(file.name, state.kind === 'Absent' ? state.bytes : 0)
    if (state.kind === 'Absent') return false
    const verified = await folder.verify(file, job.control.signal)
    if (verified === 'Verified') return true
    const { found } = verified
    const { source } = job.model
    this.#doors.log.warn('file of a model is corrupt and fetched again', {
      source,
      file: file.name,
      expected: file.sha256,
      found,
    })
    return false
  }

  #sourcing(job: Job, files: readonly ModelFile[], signal: AbortSignal): Sourcing {
    const view = new PeerView(this.#doors, job.model, this.#bench)
    const deps = { doors: this.#doors, claims: this.claims, rates: this.#rates, view }
    return new Sourcing(deps, job.model, job.dir, files, signal)
  }

  async #fetchFile(job: Job, folder: ModelFolder, { file, origin, sourcing, signal, progress }: FileTask) {
    const sha256 = file.sha256 ?? ''
    let first: Origin | undefined = origin
    try {
      const found = await download(this.#doors, {
        model: job.model,
        file,
        dir: folder.dir,
        signal,
        origin: async (peers) => {
          const decided = first ?? (await sourcing.again(file, peers))
          first = undefined
          return decided
        },
        onBytes: (bytes) => {
          job.bytes.set(file.name, bytes)
          this.claims.change(sha256, { bytes })
          progress()
        },
        checkRoom: () => makeRoom(this.#room, 0),
      })
      await folder.seal(file, found)
    } finally {
      this.claims.end(sha256)
    }
    this.#settle(job, folder, file)
  }

  /** To the disk itself, beside everything else: what runs reads it from memory. */
  #settle(job: Job, folder: ModelFolder, file: ModelFile): void {
    const settling = folder.settle(file).catch((error: unknown) => {
      const facts = { source: job.model.source, file: file.name, error: messageOf(error) }
      this.#doors.log.warn('file of a model is not flushed to the disk', facts)
    })
    job.settling.push(settling)
  }

  #progress(job: Job, doneBytes: number, total: number): void {
    const before = job.state.kind === 'Fetching' ? job.state.progress : undefined
    job.state = { kind: 'Fetching', progress: { doneBytes, totalBytes: total } }
    const step = Math.abs(doneBytes - job.toldBytes)
    if (before?.totalBytes === total && step < TOLD_SHARE * total) return
    job.toldBytes = doneBytes
    this.#tell()
  }
}
