/**
 * One file from the hub onto disk: into `NAME.part`, resumed where it ended, whatever breaks in between, and under its
 * own name only when size and sha256 are those of the list.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { BackoffPolicy } from '../../src/lib/backoff.ts'
import { backoffMs } from '../../src/lib/backoff.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { assert, messageOf } from '../../src/lib/errors.ts'
import type { FetchDoors, HubAnswer } from './doors.ts'
import { DiskFull, FetchFailure } from './doors.ts'
import type { WantedModel } from './needed.ts'

export interface DownloadTask {
  readonly model: WantedModel
  readonly file: ModelFile
  readonly dir: string
  readonly signal: AbortSignal
  /** Bytes of the file that are on disk now; fewer than before when they turned out to be wrong. */
  readonly onBytes: (bytes: number) => void
  /** Throws DiskFull when no more may be written. */
  readonly checkRoom: () => Promise<void>
}

const retry: BackoffPolicy = { firstMs: 1_000, maxMs: 30_000, factor: 2, jitter: 0.2 }
/** Failures in a row that brought no byte. */
const MAX_FAILURES = 6
export const STALL_LIMIT_MS = 30_000
const MAX_RETRY_AFTER_MS = 120_000
const ROOM_CHECK_BYTES = 64 * 2 ** 20

/** What a further try may mend. */
class Passing extends Error {
  readonly retryAfterMs: number | undefined
  constructor(message: string, retryAfterMs?: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.retryAfterMs = retryAfterMs
  }
}

/** Resolves when the file is whole and verified. Rejects with FetchFailure, DiskFull, or when the signal aborts. */
export async function download(doors: FetchDoors, task: DownloadTask): Promise<void> {
  const { file, dir, model } = task
  const part = join(dir, `${file.name}.part`)
  for (let round = 1; ; round++) {
    const found = await fill(doors, task, part)
    if (found === file.sha256) break
    await rm(part, { force: true })
    task.onBytes(0)
    const message = `${file.name} of ${model.source}: expected sha256 ${file.sha256}, found ${found}`
    doors.log.warn('fetched file is corrupt', { source: model.source, file: file.name, expected: file.sha256, found })
    if (round === 2) throw new FetchFailure('ModelFileCorrupt', `${message}, fetched twice from ${doors.endpoint}`)
  }
  await rename(part, join(dir, file.name))
  await syncFolder(dir)
}

/** Brings the part to its full size and onto the disk; returns the sha256 of what is there. */
async function fill(doors: FetchDoors, task: DownloadTask, part: string): Promise<string> {
  const { file, signal } = task
  const writer = await PartWriter.open(part, file.sizeBytes, signal)
  try {
    task.onBytes(writer.bytes)
    let failures = 0
    while (writer.bytes < file.sizeBytes) {
      const before = writer.bytes
      try {
        await receive(doors, task, writer)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof FetchFailure || error instanceof DiskFull) throw error
        failures = writer.bytes > before ? 1 : failures + 1
        if (failures >= MAX_FAILURES) throw givenUp(doors, task, error)
        const delayMs = error instanceof Passing ? error.retryAfterMs : undefined
        doors.log.info('fetch is tried again', { file: file.name, bytes: writer.bytes, error: messageOf(error) })
        await sleep(doors.clock, delayMs ?? backoffMs(retry, failures, doors.random.next()), signal)
        signal.throwIfAborted()
      }
    }
    await writer.sync()
    return writer.sha256()
  } finally {
    await writer.close()
  }
}

const givenUp = ({ endpoint }: FetchDoors, { file, model }: DownloadTask, error: unknown): FetchFailure =>
  new FetchFailure(
    'ModelFetchFailed',
    `fetch ${file.name} of ${model.source} from ${endpoint}: ${MAX_FAILURES} tries failed, the last one: ${messageOf(error)}`,
    error,
  )

/** One request. Whatever it brings is kept; ends at the file's size, however much the hub would send. */
async function receive(doors: FetchDoors, task: DownloadTask, writer: PartWriter): Promise<void> {
  const { file, model } = task
  const stalled = new AbortController()
  const signal = AbortSignal.any([task.signal, stalled.signal])
  const watch = watchOver(doors.clock, () => stalled.abort(stallOf(writer)))
  let answer: HubAnswer | undefined
  try {
    const path = `/${model.repository}/resolve/${model.commit}/${encodeURIComponent(file.name)}`
    answer = await doors.get(path, writer.bytes, signal)
    if (await isWhole(doors, task, answer, writer)) await writer.restart()
    let checkedAt = writer.bytes
    for await (const chunk of answer.body) {
      watch.onLife()
      await writer.write(chunk.subarray(0, file.sizeBytes - writer.bytes))
      task.onBytes(writer.bytes)
      if (writer.bytes >= file.sizeBytes) return
      if (writer.bytes - checkedAt >= ROOM_CHECK_BYTES) {
        await task.checkRoom()
        checkedAt = writer.bytes
      }
    }
    throw new Passing(`the answer ended after ${writer.bytes} of ${file.sizeBytes} bytes`)
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error
  } finally {
    watch.cancel()
    answer?.drop()
    await writer.flush()
  }
}

/** Calls `onStall` once when there was no life for the limit. One timer for a stream of chunks, not one per chunk. */
function watchOver(clock: Clock, onStall: () => void): { onLife(): void; cancel(): void } {
  let lifeAtMs = clock.monotonicMs()
  let timer = clock.after(STALL_LIMIT_MS, look)
  function look(): void {
    const leftMs = lifeAtMs + STALL_LIMIT_MS - clock.monotonicMs()
    if (leftMs <= 0) onStall()
    else timer = clock.after(leftMs, look)
  }
  return { onLife: () => void (lifeAtMs = clock.monotonicMs()), cancel: () => timer.cancel() }
}

const stallOf = (writer: PartWriter) =>
  new Passing(`no byte came for ${STALL_LIMIT_MS / 1000} s, ${writer.bytes} bytes are here`)

/** Judges status and range: true when the body begins at byte 0 though a part was asked for. */
async function isWhole(doors: FetchDoors, task: DownloadTask, answer: HubAnswer, writer: PartWriter): Promise<boolean> {
  const { file, model } = task
  const { status } = answer
  const what = `${file.name} of ${model.source}`
  if (status === 200) return writer.bytes > 0
  if (status === 206) {
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header('content-range') ?? '') ?? []
    if (Number(start) !== writer.bytes)
      throw new Passing(`asked for bytes from ${writer.bytes} on, the hub sends from ${start ?? 'nowhere'}`)
    if (total !== '*' && Number(total) !== file.sizeBytes)
      throw new Passing(`the hub says that the file has ${total} bytes, ${file.sizeBytes} were expected`)
    return false
  }
  if (status === 401 || status === 403)
    throw new FetchFailure(
      'ModelAccessDenied',
      `fetch ${what}: ${doors.endpoint} refuses it (HTTP ${status}); ask for access there and start the agents with HF_TOKEN`,
    )
  if (status === 416) await writer.restart()
  if (status === 416 || status === 408 || status === 429 || status >= 500)
    throw new Passing(`the hub answers HTTP ${status}`, retryAfterMs(answer, doors.clock.nowMs()))
  throw new FetchFailure(
    'ModelFetchFailed',
    `fetch ${what}: ${doors.endpoint} answers HTTP ${status} at ${model.commit}`,
  )
}

/** Retry-After in seconds or as a date; bounded, for nobody waits a day. */
export function retryAfterMs({ header }: Pick<HubAnswer, 'header'>, nowMs: number): number | undefined {
  const text = header('retry-after')
  if (text === undefined) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs
  return Number.isNaN(ms) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms))
}

/** Bytes that came and are not on disk yet: what a SIGKILL costs at most. */
const PENDING_BYTES = 2 ** 20

/**
 * The part on disk and the hash over it. Writing goes on while the next bytes come; a write that fails is told by the
 * next call, and then the part is worth what is on disk.
 */
class PartWriter {
  readonly #file: Awaited<ReturnType<typeof open>>
  #hash: Hash
  #bytes: number
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #flushing: Promise<void> | undefined

  private constructor(file: Awaited<ReturnType<typeof open>>, hash: Hash, bytes: number) {
    this.#file = file
    this.#hash = hash
    this.#bytes = bytes
  }

  /** What an earlier run left is hashed from disk; more than the file can have is worth nothing. */
  static async open(path: string, sizeBytes: number, signal: AbortSignal): Promise<PartWriter> {
    const left = await stat(path).then(
      (s) => s.size,
      () => 0,
    )
    if (left > sizeBytes) await rm(path, { force: true })
    const bytes = left > sizeBytes ? 0 : left
    const hash = createHash('sha256')
    if (bytes > 0) await hashInto(hash, path, signal)
    return new PartWriter(await open(path, 'a', 0o644), hash, bytes)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Takes the bytes; waits only while many are pending. */
  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk)
    this.#bytes += chunk.byteLength
    this.#pending.push(chunk)
    this.#pendingBytes += chunk.byteLength
    if (this.#flushing === undefined) void this.#begin()
    if (this.#pendingBytes >= PENDING_BYTES) await this.flush()
  }

  /** Resolves when everything that was taken is with the system. */
  async flush(): Promise<void> {
    await this.#flushing
    if (this.#pendingBytes > 0) await this.#begin()
  }

  /** A failure stays in `#flushing`, to be told by each later flush. */
  #begin(): Promise<void> {
    const flushing = this.#writePending().then(() => void (this.#flushing = undefined))
    flushing.catch(() => {})
    this.#flushing = flushing
    return flushing
  }

  async #writePending(): Promise<void> {
    while (this.#pendingBytes > 0) {
      const chunks = this.#pending
      const wanted = this.#pendingBytes
      this.#pending = []
      this.#pendingBytes = 0
      const { bytesWritten } = await this.#file.writev(chunks).catch(asDiskFull)
      if (bytesWritten < wanted) throw new DiskFull(`only ${bytesWritten} of ${wanted} bytes could be written`)
    }
  }

  async restart(): Promise<void> {
    await this.flush()
    await this.#file.truncate(0)
    this.#hash = createHash('sha256')
    this.#bytes = 0
  }

  async sync(): Promise<void> {
    await this.flush()
    const { size } = await this.#file.stat()
    assert(size === this.#bytes, `${size} bytes are on disk, ${this.#bytes} were taken`)
    await this.#file.sync().catch(asDiskFull)
  }

  sha256(): string {
    return this.#hash.digest('hex')
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

function asDiskFull(error: unknown): never {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT')
    throw new DiskFull('the volume of the models folder is full', { cause: error })
  throw error
}

async function hashInto(hash: Hash, path: string, signal: AbortSignal): Promise<void> {
  // Each chunk is a turn of the event loop: heartbeats go on.
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hash.update(chunk as Uint8Array)
}

/** sha256 of a file, in hex. */
export async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  await hashInto(hash, path, signal)
  return hash.digest('hex')
}

/** A rename is on disk only when its folder is. */
async function syncFolder(dir: string): Promise<void> {
  const folder = await open(dir, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
