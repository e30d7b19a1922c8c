/**
 * The folder of a fetched model, `<models>/hf/<org>--<name>@<commit12>`, and its record `.mctl.json`: which files are
 * here, verified, and how each looked to the file system then. What looks otherwise now is hashed again before it counts.
 */
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { WantedModel } from './needed.ts'
import { folderName } from './needed.ts'
import { sha256Of } from './download.ts'

export const RECORD = '.mctl.json'

/** How a file looked when it was verified. */
interface Seal {
  readonly mtimeMs: number
  /** Nobody can set this one back. */
  readonly ctimeMs: number
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

export const fetchedRoot = (modelsDir: string): string => join(modelsDir, 'hf')
export const folderOf = (modelsDir: string, model: Pick<WantedModel, 'repository' | 'commit'>): string =>
  join(fetchedRoot(modelsDir), folderName(model))

/** The record of a folder; undefined when there is none or it is damaged: then its files are verified anew. */
export async function readRecord(dir: string): Promise<FolderRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(join(dir, RECORD), 'utf8')) as Partial<FolderRecord>
    const { source, commit, files, sealed } = record
    if (typeof source !== 'string' || typeof commit !== 'string' || !Array.isArray(files)) return undefined
    if (typeof sealed !== 'object') return undefined
    return record as FolderRecord
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
export async function fileState(dir: string, record: FolderRecord, { name, sizeBytes }: ModelFile): Promise<FileState> {
  const here = await statOf(join(dir, name))
  if (here === undefined) return { kind: 'Absent', bytes: (await statOf(join(dir, `${name}.part`)))?.size ?? 0 }
  const seal = Object.hasOwn(record.sealed, name) ? record.sealed[name] : undefined
  const same = here.size === sizeBytes && seal?.mtimeMs === here.mtimeMs && seal.ctimeMs === here.ctimeMs
  return { kind: same ? 'Verified' : 'Unsealed' }
}

const statOf = (path: string) => stat(path).catch(() => undefined)

/** A model's folder in the hands of the one process that fills it. */
export class ModelFolder {
  readonly dir: string
  #record: FolderRecord
  #writing: Promise<void> = Promise.resolve()

  private constructor(dir: string, record: FolderRecord) {
    this.dir = dir
    this.#record = record
  }

  /** Makes the folder where there is none, and takes over what an earlier run verified. */
  static async open(modelsDir: string, model: WantedModel): Promise<ModelFolder> {
    const dir = folderOf(modelsDir, model)
    await mkdir(dir, { recursive: true })
    const { source, commit, files, digest } = model
    const sealed = (await readRecord(dir))?.sealed ?? {}
    const folder = new ModelFolder(dir, { source, commit, files, sealed, ...(digest === undefined ? {} : { digest }) })
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
    if (found === file.sha256) {
      await this.seal(file)
      return 'Verified'
    }
    await rm(path, { force: true })
    return { found }
  }

  /** Notes that the file under its own name is the right one. */
  async seal({ name }: ModelFile): Promise<void> {
    const { mtimeMs, ctimeMs } = await stat(join(this.dir, name))
    this.#record = { ...this.#record, sealed: { ...this.#record.sealed, [name]: { mtimeMs, ctimeMs } } }
    await this.#write()
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

/** The folders of fetched models, absolute, in order of names. */
export async function fetchedFolders(modelsDir: string): Promise<readonly string[]> {
  const root = fetchedRoot(modelsDir)
  const entries = await readdir(root, { withFileTypes: true }).catch(() => [])
  return entries
    .filter((e) => e.isDirectory() && !e.name.startsWith('.'))
    .map((e) => join(root, e.name))
    .sort()
}
