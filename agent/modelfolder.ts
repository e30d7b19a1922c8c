/**
 * What in the models folder is a model: a folder with config.json and safetensors, a folder with GGUF files, or a GGUF
 * file by itself (of several parts, the first names them all). Looks at names, sizes and times only.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface FoundFile {
  readonly name: string
  readonly sizeBytes: number
  readonly mtimeMs: number
}

export interface FoundModel {
  /** NAME of `file:NAME`. */
  readonly name: string
  /** What an engine is given: the folder, or the one file. */
  readonly path: string
  /** Where `files` lie. */
  readonly folder: string
  /** In order of names. */
  readonly files: readonly FoundFile[]
}

/** Files whose bytes decide what a model says: weights, configuration, tokenizer and templates. */
const counted = /\.(json|safetensors|model|txt|jinja|gguf|tiktoken)$/
const splitName = /^(?<prefix>.*)-(?<number>\d{5})-of-(?<total>\d{5})\.gguf$/

/** In order of names; a missing folder holds none. */
export async function findModels(modelsDir: string): Promise<readonly FoundModel[]> {
  const entries = await entriesOf(modelsDir)
  const parts = entries.filter((name) => name.endsWith('.gguf'))
  const found = await Promise.all(
    entries.map((name) => (name.endsWith('.gguf') ? ggufFile(modelsDir, name, parts) : modelFolder(modelsDir, name))),
  )
  return found.filter((model) => model !== undefined)
}

async function entriesOf(modelsDir: string): Promise<readonly string[]> {
  try {
    const names = await readdir(modelsDir)
    return names.filter((name) => !name.startsWith('.')).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** A file of a model in parts counts with the others; parts but the first are no models of their own. */
async function ggufFile(modelsDir: string, name: string, others: readonly string[]): Promise<FoundModel | undefined> {
  const split = splitName.exec(name)?.groups
  if (split !== undefined && Number(split['number']) !== 1) return undefined
  const isPart = (other: string): boolean => {
    const part = splitName.exec(other)?.groups
    return part !== undefined && part['prefix'] === split?.['prefix'] && part['total'] === split?.['total']
  }
  const files = await filesOf(modelsDir, split === undefined ? [name] : others.filter(isPart))
  const path = join(modelsDir, name)
  return files.length === 0 ? modelFolder(modelsDir, name) : { name, path, folder: modelsDir, files }
}

/** undefined: a folder of something else, or no folder. */
async function modelFolder(modelsDir: string, name: string): Promise<FoundModel | undefined> {
  const folder = join(modelsDir, name)
  const names = await readdir(folder).catch((): string[] => [])
  const ends = (ending: string): boolean => names.some((n) => !n.startsWith('.') && n.endsWith(ending))
  const isSafetensors = names.includes('config.json') && (ends('.safetensors') || ends('.index.json'))
  if (!isSafetensors && (ends('.safetensors') || !ends('.gguf'))) return undefined
  const files = await filesOf(
    folder,
    names.filter((n) => counted.test(n) && !n.startsWith('.')),
  )
  return { name, path: folder, folder, files }
}

async function filesOf(folder: string, names: readonly string[]): Promise<readonly FoundFile[]> {
  const files: FoundFile[] = []
  for (const name of [...names].sort()) {
    const found = await stat(join(folder, name)).catch(() => undefined)
    if (found?.isFile() === true) files.push({ name, sizeBytes: found.size, mtimeMs: found.mtimeMs })
  }
  return files
}

/** What a half-written model lacks: a file that its index names, or bytes. undefined: nothing that names tell. */
export async function incompleteness({ folder, files }: FoundModel): Promise<string | undefined> {
  const held = new Set(files.map((f) => f.name))
  for (const { name } of files.filter((f) => f.name.endsWith('.safetensors.index.json'))) {
    const named = await indexedFiles(join(folder, name))
    if (named === undefined) return `${name} is not readable as JSON`
    const missing = named.find((file) => !held.has(file))
    if (missing !== undefined) return `${missing} is missing, though ${name} names it`
  }
  const empty = files.find((f) => f.sizeBytes === 0 && /\.(?:safetensors|gguf)$/.test(f.name))
  return empty === undefined ? undefined : `${empty.name} is empty`
}

async function indexedFiles(path: string): Promise<readonly string[] | undefined> {
  try {
    const index = JSON.parse(await readFile(path, 'utf8')) as { weight_map?: Record<string, string> }
    return [...new Set(Object.values(index.weight_map ?? {}))].sort()
  } catch {
    return undefined
  }
}
