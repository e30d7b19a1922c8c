/** Manifests from `-f`: files, directories, `-` for stdin. Read and checked whole before anything is sent anywhere. */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { applyDefaults } from '../api/default.ts'
import { causeText } from '../api/causes.ts'
import { validate } from '../api/validate.ts'
import type { LocatedManifest } from '../api/yaml.ts'
import { locate, parseManifests } from '../api/yaml.ts'
import type { Cause } from '../lib/errors.ts'
import type { Cli } from './context.ts'
import { CliError } from './context.ts'

const endings = ['.yaml', '.yml', '.json']

/** Every manifest of the files, syntactically right. All causes of all files at once in one error. */
export async function readManifests(
  cli: Cli,
  paths: readonly string[],
  recursive: boolean,
): Promise<readonly LocatedManifest[]> {
  const { manifests, causes } = await parseAll(cli, paths, recursive)
  throwCauses(causes)
  return manifests
}

/** As readManifests, and each one defaulted and valid by its schema: what the server would refuse is told with file and line. */
export async function readValidManifests(
  cli: Cli,
  paths: readonly string[],
  recursive: boolean,
): Promise<readonly LocatedManifest[]> {
  const { manifests, causes } = await parseAll(cli, paths, recursive)
  throwCauses([
    ...causes,
    ...manifests.flatMap((located) => locate(validate(applyDefaults(located.manifest)), located)),
  ])
  return manifests
}

async function parseAll(cli: Cli, paths: readonly string[], recursive: boolean) {
  const manifests: LocatedManifest[] = []
  const causes: Cause[] = []
  for (const file of paths.flatMap((path) => filesAt(path, recursive))) {
    const parsed = parseManifests(await contentOf(cli, file), file === '-' ? '<stdin>' : file)
    manifests.push(...parsed.manifests)
    causes.push(...parsed.causes)
  }
  if (manifests.length + causes.length === 0) throw new CliError(`${paths.join(', ')} holds no manifest`)
  return { manifests, causes }
}

function throwCauses(causes: readonly Cause[]): void {
  if (causes.length === 0) return
  const lines = causes.map(causeText)
  throw new CliError(
    causes.length === 1
      ? (lines[0] ?? '')
      : `${causes.length} problems, nothing was changed:\n${lines.map((line) => `  ${line}`).join('\n')}`,
  )
}

function filesAt(path: string, recursive: boolean): readonly string[] {
  if (path === '-') return [path]
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw new CliError(`the path "${path}" does not exist`)
  if (!stat.isDirectory()) return [path]
  const entries = readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  const files = entries
    .filter((e) => e.isFile() && endings.some((ending) => e.name.endsWith(ending)))
    .map((e) => join(path, e.name))
  const below = recursive
    ? entries.filter((e) => e.isDirectory()).flatMap((e) => filesAt(join(path, e.name), true))
    : []
  if (files.length + below.length === 0 && !recursive)
    throw new CliError(`error reading [${path}]: recognized file extensions are [${endings.join(' ')}]`)
  return [...files, ...below]
}

async function contentOf(cli: Cli, file: string): Promise<Uint8Array> {
  if (file === '-') return cli.terminal.readStdin()
  try {
    return readFileSync(file)
  } catch (error) {
    throw new CliError(`read ${file}: ${(error as Error).message}`)
  }
}
