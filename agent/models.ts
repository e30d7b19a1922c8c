/**
 * Models on disk: what of `--models-dir` is a model (modelfolder.ts), each with a digest over its files and its shape.
 * Hashing is streamed, one file after the other, and remembered by path, size and time of change.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ModelShape } from '../src/api/model.ts'
import type { ModelFiles } from '../src/api/modelfiles/files.ts'
import type { NodeModel } from '../src/api/node.ts'
import type { Clock } from '../src/lib/clock.ts'
import { every } from '../src/lib/clock.ts'
import { messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import { fetchedModels } from './fetch/shelf.ts'
import type { FoundFile, FoundModel } from './modelfolder.ts'
import { findModels, incompleteness } from './modelfolder.ts'

/** One model that this machine holds, whole or not. */
export interface LocalModel extends NodeModel {
  /** Absolute: the folder of the model, or its one GGUF file (of several, the first). */
  readonly dir: string
  readonly shape?: ModelShape
  /** What is wrong with a Corrupt one, or with a shape that cannot be read. */
  readonly problem?: string
}

/** The agent's view of its models; the simulator's shelf is a constant. */
export interface ModelShelf {
  /** undefined until the first scan ended. */
  list(): readonly LocalModel[] | undefined
  onChange(listener: () => void): () => void
}

/** A shelf whose models never change. */
export const fixedShelf = (models: readonly LocalModel[]): ModelShelf => ({
  list: () => models,
  onChange: () => () => {},
})

export interface DiskShelfOptions {
  readonly modelsDir: string
  /** Where digests are remembered; a file that may be lost at any time. */
  readonly cacheFile: string
  /** Of the machine: what was fetched and not flushed to the disk in an earlier one is read again. */
  readonly bootId: string
  /** The shape out of the headers (src/api/modelfiles); throws with a reason when they make no sense. */
  readonly shapeOf: (model: ModelFiles) => Promise<ModelShape>
  readonly clock: Clock
  readonly log: Logger
  readonly rescanMs?: number
}

/** The shelf over a real folder, scanned at start and every 30 s; a missing folder holds no models. */
export class DiskShelf implements ModelShelf {
  readonly #options: DiskShelfOptions
  readonly #listeners = new Set<() => void>()
  readonly #shapes = new Map<string, ModelShape>()
  readonly #told = new Map<string, string>()
  /** `path size mtime` → sha256 of the content. */
  #digests: Map<string, string> | undefined
  #models: readonly LocalModel[] | undefined
  #scanning: Promise<void> = Promise.resolve()

  constructor(options: DiskShelfOptions) {
    this.#options = options
  }

  list(): readonly LocalModel[] | undefined {
    return this.#models
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Scans now and again until the signal aborts. A scan that fails is logged; the last list stays. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, rescanMs = 30_000 } = this.#options
    const scan = () => this.scan(signal).catch((error) => log.warn('models scan failed', { error: messageOf(error) }))
    await scan()
    await every(clock, rescanMs, signal, scan)
  }

  /** One look at the whole folder, after those that were asked for before. Listeners are told when anything differs. */
  scan(signal?: AbortSignal): Promise<void> {
    const scan = this.#scanning.then(() => this.#scan(signal))
    this.#scanning = scan.catch(() => {})
    return scan
  }

  async #scan(signal: AbortSignal | undefined): Promise<void> {
    this.#digests ??= await readDigests(this.#options.cacheFile)
    const models: LocalModel[] = []
    const used = new Set<string>()
    for (const found of await findModels(this.#options.modelsDir)) {
      if (signal?.aborted) return
      models.push(await this.#look(found, used, signal))
    }
    models.push(...(await fetchedModels(this.#options.modelsDir, this.#options.bootId)))
    if (signal?.aborted) return
    for (const key of this.#digests.keys()) if (!used.has(key)) this.#digests.delete(key)
    const changed = JSON.stringify(models) !== JSON.stringify(this.#models)
    this.#models = models
    if (!changed) return
    this.#tellProblems(models)
    for (const listener of this.#listeners) listener()
  }

  async #look(found: FoundModel, used: Set<string>, signal: AbortSignal | undefined): Promise<LocalModel> {
    const { folder, files } = found
    const sizeBytes = files.reduce((sum, f) => sum + f.sizeBytes, 0)
    const base = { source: `file:${found.name}`, dir: found.path, sizeBytes }
    for (const file of files) used.add(digestKey(folder, file))
    const incomplete = await incompleteness(found)
    if (incomplete !== undefined) return { ...base, state: 'Corrupt', problem: incomplete }

    const digest = await this.#digestOf(folder, files, signal)
    if (digest === undefined) return { ...base, state: 'Fetching', problem: 'its files change while they are read' }
    const shape = await this.#shapeOf(folder, files, digest)
    return 'problem' in shape
      ? { ...base, state: 'Corrupt', digest, problem: shape.problem }
      : { ...base, state: 'Present', digest, shape: shape.shape }
  }

  /** sha256 over names, sizes and contents in order of names; undefined when a file changed under the reading. */
  async #digestOf(dir: string, files: readonly FoundFile[], signal?: AbortSignal): Promise<string | undefined> {
    const whole = createHash('sha256')
    for (const file of files) {
      const path = join(dir, file.name)
      const key = digestKey(dir, file)
      const known = this.#digests?.get(key)
      const content = known ?? (await hashFile(path, signal))
      if (known === undefined) {
        const after = await stat(path)
        if (after.size !== file.sizeBytes || after.mtimeMs !== file.mtimeMs) return undefined
        this.#digests?.set(key, content)
        await writeDigests(this.#options.cacheFile, this.#digests ?? new Map())
      }
      whole.update(`${file.name}\0${file.sizeBytes}\0${content}\n`)
    }
    return `sha256:${whole.digest('hex')}`
  }

  async #shapeOf(dir: string, files: readonly FoundFile[], digest: string) {
    const known = this.#shapes.get(digest)
    if (known !== undefined) return { shape: known }
    try {
      const shape = await this.#options.shapeOf({
        files,
        readRange: (file, from, to) => readRange(join(dir, file), from, to),
      })
      this.#shapes.set(digest, shape)
      return { shape }
    } catch (error) {
      return { problem: messageOf(error) }
    }
  }

  #tellProblems(models: readonly LocalModel[]): void {
    for (const { source, problem } of models) {
      if (problem !== undefined && this.#told.get(source) !== problem)
        this.#options.log.warn('model is not usable', { source, reason: problem })
      if (problem === undefined) this.#told.delete(source)
      else this.#told.set(source, problem)
    }
  }
}

const digestKey = (dir: string, file: FoundFile): string =>
  `${join(dir, file.name)}\0${file.sizeBytes}\0${file.mtimeMs}`

async function hashFile(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  // Large chunks: each one is a turn of the event loop in between, and heartbeats must go on.
  const stream = createReadStream(path, { highWaterMark: 2 ** 20, ...(signal === undefined ? {} : { signal }) })
  for await (const chunk of stream) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

async function readRange(path: string, start: number, end: number): Promise<Uint8Array> {
  const file = await open(path)
  try {
    const buffer = new Uint8Array(Math.max(0, end - start))
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function readDigests(path: string): Promise<Map<string, string>> {
  try {
    return new Map(Object.entries(JSON.parse(await readFile(path, 'utf8')) as Record<string, string>))
  } catch {
    return new Map() // lost or damaged: only time is lost
  }
}

async function writeDigests(path: string, digests: ReadonlyMap<string, string>): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.new`, JSON.stringify(Object.fromEntries(digests)), { mode: 0o600 })
  await rename(`${path}.new`, path)
}
