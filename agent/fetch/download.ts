/**
 * One file onto disk: into `NAME.part`, resumed where it ended, whatever breaks in between, and under its own name only
 * when size and sha256 are those of the list. Where each request goes is decided outside (sourcing.ts).
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { BackoffPolicy } from '../../src/lib/backoff.ts'
import { backoffMs } from '../../src/lib/backoff.ts'
import { certificateProblem } from '../../src/lib/certificates.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { FetchDoors } from './doors.ts'
import { diskFullOf, FetchFailure } from './doors.ts'
import type { WantedModel } from './needed.ts'
import type { FileRequest, Head, PartFile, Verdict } from './transfer/transfers.ts'

/** Where bytes come from: the hub (or the server of an https:// file), or a peer. */
export interface Origin {
  readonly kind: 'Hub' | 'Peer'
  /** For messages. */
  readonly name: string
  /** For the bytes from this one on. */
  readonly request: (from: number) => FileRequest
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
  /** Bytes of the file that are here, for others to read; fewer than before when they turned out to be wrong. */
  readonly onBytes: (bytes: number) => void
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
  constructor(message: string, retryAfterMs?: number) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

/** The server says that the part goes beyond the file. */
class PartWorthless extends Passing {}

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
async function fill(doors: FetchDoors, task: DownloadTask, path: string, peers: boolean) {
  const { file, signal } = task
  const helpers = new Set<Origin>()
  const part = await doors.transfers.open({ path, sizeBytes: file.sizeBytes }, signal).catch(asDiskFull)
  try {
    task.onBytes(part.bytes)
    let failures = 0
    while (part.bytes < file.sizeBytes) {
      const before = part.bytes
      const origin = await task.origin(peers)
      try {
        await receive(doors, task, origin, part)
      } catch (error) {
        signal.throwIfAborted()
        const full = diskFullOf(error)
        if (error instanceof FetchFailure || full !== undefined) throw full ?? error
        const problem = origin.kind === 'Hub' ? certificateProblem(error) : undefined
        if (problem !== undefined) throw refused(task, origin, problem)
        doors.log.info('fetch is tried again', {
          file: file.name,
          bytes: part.bytes,
          from: origin.name,
          error: messageOf(error),
        })
        if (origin.kind === 'Peer') continue // it is asked no more for a while
        failures = part.bytes > before ? 1 : failures + 1
        if (failures >= MAX_FAILURES) throw givenUp(task, origin, error)
        const delayMs = error instanceof Passing ? error.retryAfterMs : undefined
        await sleep(doors.clock, delayMs ?? backoffMs(retry, failures, doors.random.next()), signal)
        signal.throwIfAborted()
      } finally {
        if (part.bytes > before) helpers.add(origin)
      }
    }
    return { found: await part.sha256(), helpers: [...helpers] }
  } finally {
    await part.close()
  }
}

function asDiskFull(error: unknown): never {
  throw diskFullOf(error) ?? error
}

const refused = ({ file, model }: DownloadTask, { name }: Origin, problem: string): FetchFailure =>
  new FetchFailure('ModelFetchFailed', `fetch ${file.name} of ${model.source} from ${name}: ${problem}`)

const givenUp = ({ file, model }: DownloadTask, { name }: Origin, error: unknown): FetchFailure =>
  new FetchFailure(
    'ModelFetchFailed',
    `fetch ${file.name} of ${model.source} from ${name}: ${MAX_FAILURES} tries failed, the last one: ${messageOf(error)}`,
    error,
  )

/** One request. Whatever it brings is kept; ends at the file's size, however much would be sent. */
async function receive(doors: FetchDoors, task: DownloadTask, origin: Origin, part: PartFile): Promise<void> {
  const { file } = task
  const { clock } = doors
  const broken = new AbortController()
  const signal = AbortSignal.any([task.signal, broken.signal])
  const watch = watchOver(clock, () => broken.abort(stallOf(part)))
  const [startMs, startBytes] = [clock.monotonicMs(), part.bytes]
  let checkedAt = startBytes
  let failed = true
  try {
    await part.receive({
      request: origin.request(part.bytes),
      judge: (head) => judge(doors, task, origin, head, part.bytes),
      onBytes: (bytes) => {
        watch.onLife()
        task.onBytes(bytes)
        if (bytes - checkedAt < ROOM_CHECK_BYTES) return
        checkedAt = bytes
        task.checkRoom().catch((error: unknown) => broken.abort(error))
      },
      signal,
    })
    if (part.bytes < file.sizeBytes)
      throw new Passing(`the answer ended after ${part.bytes} of ${file.sizeBytes} bytes`)
    failed = false
  } catch (error) {
    failed = diskFullOf(error) === undefined
    if (error instanceof PartWorthless) await part.restart()
    throw error
  } finally {
    watch.cancel()
    origin.report({ bytes: part.bytes - startBytes, ms: clock.monotonicMs() - startMs, failed })
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

const stallOf = ({ bytes }: PartFile) =>
  new Passing(`no byte came for ${STALL_LIMIT_MS / 1000} s, ${bytes} bytes are here`)

/** Judges status, range and etag of the answer to a request for the bytes from `from` on. */
function judge(
  doors: FetchDoors,
  { file, model }: DownloadTask,
  { kind, name }: Origin,
  head: Head,
  from: number,
): Verdict {
  const { status, headers } = head
  const what = `${file.name} of ${model.source}`
  if ((status === 200 || status === 206) && !isSame(file, head))
    throw new FetchFailure(
      'ModelFetchFailed',
      `fetch ${what}: the file there has changed since it was planned with: delete the Model and deploy again`,
    )
  if (status === 200) return from > 0 ? 'Restart' : 'Append'
  if (status === 206) {
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
    if (Number(start) !== from)
      throw new Passing(`asked for bytes from ${from} on, ${name} sends from ${start ?? 'nowhere'}`)
    if (total !== '*' && Number(total) !== file.sizeBytes)
      throw new Passing(`${name} says that the file has ${total} bytes, ${file.sizeBytes} were expected`)
    return 'Append'
  }
  if (kind === 'Peer') throw new Passing(`${name} answers HTTP ${status}`)
  if (status === 401 || status === 403)
    throw new FetchFailure(
      'ModelAccessDenied',
      `fetch ${what}: ${name} refuses it (HTTP ${status}); ask for access there and start the agents with HF_TOKEN`,
    )
  const waitMs = retryAfterMs(headers['retry-after'], doors.clock.nowMs())
  if (status === 416) throw new PartWorthless(`the hub answers HTTP ${status}`, waitMs)
  if (status === 408 || status === 429 || status >= 500) throw new Passing(`the hub answers HTTP ${status}`, waitMs)
  throw new FetchFailure('ModelFetchFailed', `fetch ${what}: ${name} answers HTTP ${status} at ${model.commit}`)
}

/** A file without a sha256 is known by the server's own word for its content. */
const isSame = ({ sha256, etag }: ModelFile, { headers }: Head): boolean =>
  sha256 !== undefined ||
  etag === undefined ||
  etag === '' ||
  [headers['etag'], headers['last-modified']].includes(etag)

/** Retry-After in seconds or as a date; bounded, for nobody waits a day. */
export function retryAfterMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs
  return Number.isNaN(ms) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms))
}
