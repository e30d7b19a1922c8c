/**
 * The folder of a fetched model, `<models>/hf/<org>--<name>@<commit12>`, and its record `.mctl.json`: which files are
 * here, verified, and how each looked to the file system then. What looks otherwise now is hashed again before it counts,
 * and so is after a restart of the machine what was not flushed to the disk before.
 */
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { WantedModel } from './needed.ts'
import { folderName, isPlainFile } from './needed.ts'
import { sha256Of } from './transfer/hash.ts'

export const RECORD = '.mctl.json'

/** How a file looked when it was verified. */
interface Seal {
  readonly mtimeMs: number
  /** Nobody can set this one back. */
  readonly ctimeMs: number
  /** What was found. */
  readonly sha256?: string
  /** Not flushed to the disk: it counts until the machine starts anew. */
  readonly bootId?: string
}

export interface FolderRecord {
  readonly source: string
  readonly commit: string
  readonly digest?: string
  /** Everything that the model consists of. */
  readonly files: readonly ModelFile[]
  /** Verified files by name. */
  readonly sealed: Readonly<Record<string, Seal>>
}

const ROOTS = ['hf', 'https']

export const folderOf = (modelsDir: string, model: Pick<WantedModel, 'source' | 'commit'>): string =>
  join(modelsDir, folderName(model))

/** Is the folder one that fetching makes? */
export const isFetched = (modelsDir: string, dir: string): boolean =>
  ROOTS.some((root) => dir.startsWith(join(modelsDir, root, '/')))

/**
 * The record of a folder as it counts in this boot of the machine; undefined when there is none or it is damaged: then
 * its files are verified anew.
 */
export async function readRecord(dir: string, ownBootId: string): Promise<FolderRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(join(dir, RECORD), 'utf8')) as Partial<FolderRecord>
    const { source, commit, files, sealed } = record
    if (typeof source !== 'string' || typeof commit !== 'string' || !Array.isArray(files)) return undefined
    if (typeof sealed !== 'object' || !(files as ModelFile[]).every(isPlainFile)) return undefined
    const counts = Object.entries(sealed).filter(([, { bootId }]) => bootId === undefined || bootId === ownBootId)
    return { ...(record as FolderRecord), sealed: Object.fromEntries(counts) }
  } catch {
    return undefined
  }
}

export type FileState =
  /** Sealed, and nothing has touched it since. */
  | { readonly kind: 'Verified' }
  /** Not under its own name; `bytes` of it are in its part. */
  | { readonly kind: 'Absent'; readonly bytes: number }
  /** There, but not known to be right. */
  | { readonly kind: 'Unsealed' }

/** How a file of the record stands, without reading it. */
export async function fileState(dir: string, record: FolderRecord, file: ModelFile): Promise<FileState> {
  const { name, sizeBytes, sha256 } = file
  const here = await statOf(join(dir, name))
  if (here === undefined) return { kind: 'Absent', bytes: (await statOf(join(dir, `${name}.part`)))?.size ?? 0 }
  const seal = Object.hasOwn(record.sealed, name) ? record.sealed[name] : undefined
  const same = here.size === sizeBytes && seal?.mtimeMs === here.mtimeMs && seal.ctimeMs === here.ctimeMs
  const isListed = sha256 === undefined || seal?.sha256 === sha256
  return { kind: same && isListed ? 'Verified' : 'Unsealed' }
}

const statOf = (path: string) => stat(path).catch(() => undefined)

/** A model's folder in the hands of the one process that fills it. */
export class ModelFolder {
  readonly dir: string
  readonly #bootId: string
  #record: FolderRecord
  #writing: Promise<void> = Promise.resolve()

  private constructor(dir: string, bootId: string, record: FolderRecord) {
    this.dir = dir
    this.#bootId = bootId
    this.#record = record
  }

  /** Makes the folder where there is none, and takes over what an earlier run verified. */
  static async open(modelsDir: string, model: WantedModel, bootId: string): Promise<ModelFolder> {
    const dir = folderOf(modelsDir, model)
    await mkdir(dir, { recursive: true })
    const { source, commit, files, digest } = model
    const sealed = (await readRecord(dir, bootId))?.sealed ?? {}
    const record = { source, commit, files, sealed, ...(digest === undefined ? {} : { digest }) }
    const folder = new ModelFolder(dir, bootId, record)
    await folder.#write()
    return folder
  }

  state(file: ModelFile): Promise<FileState> {
    return fileState(this.dir, this.#record, file)
  }

  /** Hashes a file whose look is not the sealed one: seals it, or removes it and tells what was found. */
  async verify(file: ModelFile, signal: AbortSignal): Promise<{ readonly found: string } | 'Verified'> {
    const path = join(this.dir, file.name)
    const found = await sha256Of(path, signal)
    if (found === (file.sha256 ?? this.#record.sealed[file.name]?.sha256)) {
      await this.seal(file, found)
      await this.settle(file)
      return 'Verified'
    }
    await rm(path, { force: true })
    return { found }
  }

  /** Notes that the file under its own name is the right one, as long as the machine does not start anew. */
  async seal({ name }: ModelFile, found: string): Promise<void> {
    const { mtimeMs, ctimeMs } = await stat(join(this.dir, name))
    await this.#seal(name, { mtimeMs, ctimeMs, sha256: found, bootId: this.#bootId })
  }

  /** Brings a sealed file to the disk itself, and lets its seal count for good. */
  async settle({ name }: ModelFile): Promise<void> {
    await flushToDisk(join(this.dir, name))
    await flushToDisk(this.dir)
    const sealed = this.#record.sealed[name]
    if (sealed === undefined) return
    const { bootId: _, ...seal } = sealed
    await this.#seal(name, seal)
  }

  #seal(name: string, seal: Seal): Promise<void> {
    this.#record = { ...this.#record, sealed: { ...this.#record.sealed, [name]: seal } }
    return this.#write()
  }

  /** tensor → file, or undefined when the model has no index. */
  async weightMap(index: string): Promise<Readonly<Record<string, string>> | undefined> {
    const text = await readFile(join(this.dir, index), 'utf8').catch(() => undefined)
    if (text === undefined) return undefined
    const { weight_map: map } = JSON.parse(text) as { weight_map?: Readonly<Record<string, string>> }
    return map
  }

  /** One after the other: files end at the same time. */
  #write(): Promise<void> {
    this.#writing = this.#writing.then(() => writeRecord(this.dir, this.#record))
    return this.#writing
  }
}

async function writeRecord(dir: string, record: FolderRecord): Promise<void> {
  const path = join(dir, RECORD)
  const file = await open(`${path}.new`, 'w', 0o644)
  try {
    await file.writeFile(JSON.stringify(record))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}

/** A file with its bytes, or a folder with its names. */
async function flushToDisk(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The folders of fetched models, absolute, in order of names. */
export async function fetchedFolders(modelsDir: string): Promise<readonly string[]> {
  const folders: string[] = []
  for (const root of ROOTS) {
    const entries = await readdir(join(modelsDir, root), { withFileTypes: true }).catch(() => [])
    const names = entries.filter((e) => e.isDirectory() && !e.name.startsWith('.')).map((e) => e.name)
    folders.push(...names.sort().map((name) => join(modelsDir, root, name)))
  }
  return folders
}
