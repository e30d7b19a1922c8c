/**
 * One file onto disk: into `NAME.part`, resumed where it ended, whatever breaks in between, and under its own name only
 * when size and sha256 are those of the list. Where each request goes is decided outside (sourcing.ts).
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { BackoffPolicy } from '../../src/lib/backoff.ts'
import { backoffMs } from '../../src/lib/backoff.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { FetchDoors, HubAnswer } from './doors.ts'
import { DiskFull, FetchFailure } from './doors.ts'
import type { WantedModel } from './needed.ts'
import { PartWriter } from './part.ts'

/** Where bytes come from: the hub (or the server of an https:// file), or a peer. */
export interface Origin {
  readonly kind: 'Hub' | 'Peer'
  /** For messages. */
  readonly name: string
  readonly get: (from: number, signal: AbortSignal) => Promise<HubAnswer>
  /** A request to it brought so many bytes in so many ms, or broke. */
  readonly report: (outcome: { readonly bytes: number; readonly ms: number; readonly failed: boolean }) => void
}

export interface DownloadTask {
  readonly model: WantedModel
  readonly file: ModelFile
  readonly dir: string
  readonly signal: AbortSignal
  /** For the next request; asked again after each that broke. `peers`: others than the hub may be asked. */
  readonly origin: (peers: boolean) => Promise<Origin>
  /** Bytes of the file that are here now; fewer than before when they turned out to be wrong. */
  readonly onBytes: (bytes: number) => void
  /** Those of them that others can read. */
  readonly onWritten: (bytes: number) => void
  /** Throws DiskFull when no more may be written. */
  readonly checkRoom: () => Promise<void>
}

const retry: BackoffPolicy = { firstMs: 1_000, maxMs: 30_000, factor: 2, jitter: 0.2 }
/** Failures of the hub in a row that brought no byte. */
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

/**
 * Resolves with the file's sha256 when it is whole and verified. Rejects with FetchFailure, DiskFull, or when the
 * signal aborts. Bytes that a peer had a part in and that are wrong cost no try of the hub's.
 */
export async function download(doors: FetchDoors, task: DownloadTask): Promise<string> {
  const { file, dir, model } = task
  const part = join(dir, `${file.name}.part`)
  for (let round = 1, mayAskPeers = true; ;) {
    const { found, helpers } = await fill(doors, task, part, mayAskPeers)
    if (file.sha256 === undefined || found === file.sha256) {
      await rename(part, join(dir, file.name))
      return found
    }
    await rm(part, { force: true })
    task.onBytes(0)
    const from = helpers.map(({ name }) => name).join(', ')
    const facts = { source: model.source, file: file.name, expected: file.sha256, found }
    doors.log.warn('fetched file is corrupt', { ...facts, from })
    if (helpers.some(({ kind }) => kind === 'Peer')) mayAskPeers = false
    else if (round === 2) throw corrupt(task, found, from)
    else round += 1
  }
}

const corrupt = ({ file, model }: DownloadTask, found: string, from: string): FetchFailure =>
  new FetchFailure(
    'ModelFileCorrupt',
    `${file.name} of ${model.source}: expected sha256 ${file.sha256}, found ${found}, fetched twice from ${from}`,
  )

/** Brings the part to its full size; the sha256 of what is there, and who had a part in it. */
async function fill(doors: FetchDoors, task: DownloadTask, part: string, peers: boolean) {
  const { file, signal } = task
  const helpers = new Set<Origin>()
  const writer = await PartWriter.open(part, file.sizeBytes, signal, task.onWritten)
  try {
    task.onBytes(writer.bytes)
    let failures = 0
    while (writer.bytes < file.sizeBytes) {
      const before = writer.bytes
      const origin = await task.origin(peers)
      try {
        await receive(doors, task, origin, writer)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof FetchFailure || error instanceof DiskFull) throw error
        doors.log.info('fetch is tried again', {
          file: file.name,
          bytes: writer.bytes,
          from: origin.name,
          error: messageOf(error),
        })
        if (origin.kind === 'Peer') continue // it is asked no more for a while
        failures = writer.bytes > before ? 1 : failures + 1
        if (failures >= MAX_FAILURES) throw givenUp(task, origin, error)
        const delayMs = error instanceof Passing ? error.retryAfterMs : undefined
        await sleep(doors.clock, delayMs ?? backoffMs(retry, failures, doors.random.next()), signal)
        signal.throwIfAborted()
      } finally {
        if (writer.bytes > before) helpers.add(origin)
      }
    }
    return { found: await writer.sha256(), helpers: [...helpers] }
  } finally {
    await writer.close()
  }
}

const givenUp = ({ file, model }: DownloadTask, { name }: Origin, error: unknown): FetchFailure =>
  new FetchFailure(
    'ModelFetchFailed',
    `fetch ${file.name} of ${model.source} from ${name}: ${MAX_FAILURES} tries failed, the last one: ${messageOf(error)}`,
    error,
  )

/** One request. Whatever it brings is kept; ends at the file's size, however much would be sent. */
async function receive(doors: FetchDoors, task: DownloadTask, origin: Origin, writer: PartWriter): Promise<void> {
  const { file } = task
  const { clock } = doors
  const stalled = new AbortController()
  const signal = AbortSignal.any([task.signal, stalled.signal])
  const watch = watchOver(clock, () => stalled.abort(stallOf(writer)))
  const [startMs, startBytes] = [clock.monotonicMs(), writer.bytes]
  let answer: HubAnswer | undefined
  let failed = true
  try {
    answer = await origin.get(writer.bytes, signal)
    if (await isWhole(doors, task, origin, answer, writer)) await writer.restart()
    let checkedAt = writer.bytes
    for await (const batch of answer.body) {
      watch.onLife()
      await writer.write(within(batch, file.sizeBytes - writer.bytes))
      task.onBytes(writer.bytes)
      if (writer.bytes >= file.sizeBytes) break
      if (writer.bytes - checkedAt >= ROOM_CHECK_BYTES) {
        await task.checkRoom()
        checkedAt = writer.bytes
      }
    }
    if (writer.bytes < file.sizeBytes)
      throw new Passing(`the answer ended after ${writer.bytes} of ${file.sizeBytes} bytes`)
    failed = false
  } catch (error) {
    failed = !(error instanceof DiskFull)
    throw stalled.signal.aborted ? stalled.signal.reason : error
  } finally {
    watch.cancel()
    answer?.drop()
    origin.report({ bytes: writer.bytes - startBytes, ms: clock.monotonicMs() - startMs, failed })
    await writer.flush()
  }
}

/** No more than so many bytes of it. */
function within(batch: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let left = bytes
  const taken: Uint8Array[] = []
  for (const chunk of batch) {
    if (left <= 0) break
    taken.push(chunk.byteLength <= left ? chunk : chunk.subarray(0, left))
    left -= chunk.byteLength
  }
  return taken
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

/** Judges status, range and etag: true when the body begins at byte 0 though a part was asked for. */
async function isWhole(
  doors: FetchDoors,
  { file, model }: DownloadTask,
  { kind, name }: Origin,
  answer: HubAnswer,
  writer: PartWriter,
): Promise<boolean> {
  const { status } = answer
  const what = `${file.name} of ${model.source}`
  if ((status === 200 || status === 206) && !isSame(file, answer))
    throw new FetchFailure(
      'ModelFetchFailed',
      `fetch ${what}: the file there has changed since it was planned with: delete the Model and deploy again`,
    )
  if (status === 200) return writer.bytes > 0
  if (status === 206) {
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header('content-range') ?? '') ?? []
    if (Number(start) !== writer.bytes)
      throw new Passing(`asked for bytes from ${writer.bytes} on, ${name} sends from ${start ?? 'nowhere'}`)
    if (total !== '*' && Number(total) !== file.sizeBytes)
      throw new Passing(`${name} says that the file has ${total} bytes, ${file.sizeBytes} were expected`)
    return false
  }
  if (kind === 'Peer') throw new Passing(`${name} answers HTTP ${status}`)
  if (status === 401 || status === 403)
    throw new FetchFailure(
      'ModelAccessDenied',
      `fetch ${what}: ${name} refuses it (HTTP ${status}); ask for access there and start the agents with HF_TOKEN`,
    )
  if (status === 416) await writer.restart()
  if (status === 416 || status === 408 || status === 429 || status >= 500)
    throw new Passing(`the hub answers HTTP ${status}`, retryAfterMs(answer, doors.clock.nowMs()))
  throw new FetchFailure('ModelFetchFailed', `fetch ${what}: ${name} answers HTTP ${status} at ${model.commit}`)
}

/** A file without a sha256 is known by the server's own word for its content. */
const isSame = ({ sha256, etag }: ModelFile, { header }: HubAnswer): boolean =>
  sha256 !== undefined || etag === undefined || etag === '' || [header('etag'), header('last-modified')].includes(etag)

/** Retry-After in seconds or as a date; bounded, for nobody waits a day. */
export function retryAfterMs({ header }: Pick<HubAnswer, 'header'>, nowMs: number): number | undefined {
  const text = header('retry-after')
  if (text === undefined) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs
  return Number.isNaN(ms) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms))
}
