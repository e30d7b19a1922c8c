/** The fetched models of a models folder, as a node reports them: looked at, not read. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LocalModel } from '../models.ts'
import type { FolderRecord } from './folder.ts'
import { fetchedFolders, fileState, readRecord } from './folder.ts'
import { isUsed } from './uses.ts'

export async function fetchedModels(modelsDir: string, bootId: string): Promise<readonly LocalModel[]> {
  const models: LocalModel[] = []
  for (const dir of await fetchedFolders(modelsDir)) {
    const record = await readRecord(dir, bootId)
    if (record !== undefined) models.push(await fetchedModel(dir, record))
  }
  return models
}

/**
 * Present when the whole model is here, Partial when some files are: a pipeline rank needs no more. A file that has
 * changed since it was verified makes it Corrupt until the next fetch reads it again.
 */
async function fetchedModel(dir: string, record: FolderRecord): Promise<LocalModel> {
  const { source, commit, digest, files } = record
  const states = await Promise.all(files.map(async (file) => ({ file, state: await fileState(dir, record, file) })))
  const changed = states.find(({ file, state }) => state.kind === 'Unsealed' && Object.hasOwn(record.sealed, file.name))
  const whole = states.every(({ state }) => state.kind === 'Verified')
  const underway = await Promise.all(states.map(({ file }) => isFile(join(dir, `${file.name}.part`))))
  const sizeBytes = states.reduce(
    (sum, { file, state }) => sum + (state.kind === 'Absent' ? state.bytes : file.sizeBytes),
    0,
  )
  const base = {
    source,
    dir,
    sizeBytes,
    revision: commit,
    ...(digest === undefined ? {} : { digest }),
    ...((await isUsed(dir)) ? {} : { prunable: true }),
  }
  return changed === undefined
    ? { ...base, state: whole ? 'Present' : underway.includes(true) ? 'Fetching' : 'Partial' }
    : { ...base, state: 'Corrupt', problem: `${changed.file.name} has changed since it was verified` }
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
