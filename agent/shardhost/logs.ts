/**
 * The shards' log files as their readers see them: found by shard, tailed, followed over rotation, and thrown away when
 * newer epochs have come. They outlive their shards, for people ask why after the end.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readSync, readdirSync, rmSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { LogOptions } from '../hosts.ts'
import { LineSplitter } from './lines.ts'
import type { LogLine } from './stamps.ts'
import { StampReader } from './stamps.ts'

const EPOCHS_KEPT = 3
/** Over all groups, deleted ones too; with two files of 8 MB each at most 1.6 GB, in practice a few MB. */
const LOGS_KEPT = 100
const FOLLOW_POLL_MS = 200
const READ_BYTES = 65_536

export const logsDir = (dataDir: string): string => join(dataDir, 'logs')

/** `_` occurs in no name of ours: it parts namespace, shard name and uid. */
export function logPath(dataDir: string, namespace: string, shardName: string, shardUid: string): string {
  return join(logsDir(dataDir), `${[namespace, shardName, shardUid].map(plain).join('_')}.log`)
}

const plain = (part: string): string => part.replace(/[^A-Za-z0-9.-]/g, '-').slice(0, 100)

/** Path of a shard's log, with uid '' of the newest shard of that name; undefined when this machine has none. */
export function findLog(dataDir: string, shardName: string, shardUid: string): string | undefined {
  const name = `_${plain(shardName)}_`
  const ending = shardUid === '' ? '.log' : `${name}${plain(shardUid)}.log`
  return byAge(logsDir(dataDir)).find((path) => path.endsWith(ending) && basename(path).includes(name))
}

/** Makes room for a new epoch's log: of its group and rank two older ones stay. Those named in `inUse` stay anyway. */
export function pruneLogs(dataDir: string, newLog: string, inUse: ReadonlySet<string>): void {
  const dir = logsDir(dataDir)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  for (const path of logsToDrop(byAge(dir), newLog)) {
    if (inUse.has(path)) continue
    rmSync(path, { force: true })
    rmSync(`${path}.1`, { force: true })
  }
}

/** Pure: which logs go, given all of them, newest first. */
export function logsToDrop(newestFirst: readonly string[], newLog: string): readonly string[] {
  const rank = rankOf(newLog)
  const sameRank = newestFirst.filter((path) => path !== newLog && rankOf(path) === rank)
  return [...new Set([...sameRank.slice(EPOCHS_KEPT - 1), ...newestFirst.slice(LOGS_KEPT - 1)])]
}

/** The log's name without epoch and uid: the same for all incarnations of one rank. */
const rankOf = (path: string): string => path.replace(/-e\d+-(\d+)_[^_]*\.log$/, '-$1')

function byAge(dir: string): readonly string[] {
  const aged = listLogs(dir).map((name) => ({ path: join(dir, name), mtimeMs: mtimeOf(join(dir, name)) }))
  return aged.sort((a, b) => b.mtimeMs - a.mtimeMs).map(({ path }) => path)
}

function listLogs(dir: string): readonly string[] {
  try {
    return readdirSync(dir).filter((name) => name.endsWith('.log'))
  } catch {
    return []
  }
}

function mtimeOf(path: string): number {
  try {
    return statSync(path).mtimeMs
  } catch {
    return 0
  }
}

export interface ReadLogOptions extends LogOptions {
  readonly path: string
  readonly clock: Clock
  /** Nothing more will be written: a follower ends when it has read everything. */
  readonly ended: () => boolean
}

/** Lines of a log, the rotated part first; with `tail` only the newest of what is there, with `follow` what comes. */
export async function* readLogLines(options: ReadLogOptions): AsyncIterable<LogLine> {
  const { path, tail, sinceMs, follow, signal, clock } = options
  const isWanted = ({ atMs }: LogLine) => sinceMs === undefined || atMs === undefined || atMs >= sinceMs
  const reader = new LogReader(path)
  try {
    const all = [...readWhole(`${path}.1`), ...reader.read()]
    if (!follow || options.ended()) all.push(...reader.finish())
    const past = all.filter(isWanted)
    yield* tail === undefined ? past : past.slice(past.length - Math.min(tail, past.length))
    while (follow && !signal.aborted) {
      // Asked before reading: what was written before the end is then read.
      const ended = options.ended()
      for (const line of reader.read().filter(isWanted)) {
        if (signal.aborted) return
        yield line
      }
      if (ended) return yield* reader.finish().filter(isWanted)
      await sleep(clock, FOLLOW_POLL_MS, signal)
    }
  } finally {
    reader.close()
  }
}

function readWhole(path: string): readonly LogLine[] {
  const reader = new LogReader(path)
  try {
    return [...reader.read(), ...reader.finish()]
  } finally {
    reader.close()
  }
}

/** Reads on where it stopped; when the file was rotated, first the rest of the old one through the open descriptor. */
class LogReader {
  readonly #path: string
  #fd: number | undefined
  #lines: LogLine[] = []
  readonly #stamps = new StampReader()
  readonly #splitter = new LineSplitter((line) => this.#lines.push(this.#stamps.read(line)))

  constructor(path: string) {
    this.#path = path
    this.#open()
  }

  read(): readonly LogLine[] {
    if (this.#fd === undefined) this.#open()
    this.#drain()
    if (this.#wasRotated()) {
      this.#drain()
      this.close()
      this.#open()
      this.#drain()
    }
    return this.#lines.splice(0)
  }

  finish(): readonly LogLine[] {
    this.#splitter.finish()
    return this.#lines.splice(0)
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }

  #open(): void {
    try {
      this.#fd = openSync(this.#path, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        throw new OpError('Internal', `read the log ${this.#path}`, { cause: error })
    }
  }

  #drain(): void {
    if (this.#fd === undefined) return
    const chunk = Buffer.alloc(READ_BYTES)
    for (;;) {
      const bytes = readSync(this.#fd, chunk)
      if (bytes === 0) return
      this.#splitter.push(chunk.subarray(0, bytes))
    }
  }

  #wasRotated(): boolean {
    if (this.#fd === undefined) return false
    try {
      return statSync(this.#path).ino !== fstatSync(this.#fd).ino
    } catch {
      return false
    }
  }
}
