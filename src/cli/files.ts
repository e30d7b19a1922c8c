/** Manifests from `-f`: files, directories, `-` for stdin. Read and checked whole before anything is sent anywhere. */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { applyDefaults } from '../api/default.ts'
import { causeText } from '../api/causes.ts'
import { validate } from '../api/validate.ts'
import type { LocatedManifest } from '../api/yaml.ts'
import { locate, parseManifests } from '../api/yaml.ts'
import type { Cause } from '../lib/errors.ts'
import { messageOf } from '../lib/errors.ts'
import type { Cli } from './context.ts'
import { CliError } from './context.ts'
import { isUrl } from './url.ts'

const endings = ['.yaml', '.yml', '.json']

/** Every manifest of the files, syntactically right. All causes of all files at once in one error. */
export async function readManifests(
  cli: Cli,
  paths: readonly string[],
  recursive: boolean,
): Promise<readonly LocatedManifest[]> {
  const { manifests, causes, files } = await parseAll(cli, paths, recursive)
  throwCauses(causes, files)
  return manifests
}

/** As readManifests, and each one defaulted and valid by its schema: what the server would refuse is told with file and line. */
export async function readValidManifests(
  cli: Cli,
  paths: readonly string[],
  recursive: boolean,
): Promise<readonly LocatedManifest[]> {
  const { manifests, causes, files } = await parseAll(cli, paths, recursive)
  const invalid = manifests.flatMap((located) => locate(validate(applyDefaults(located.manifest)), located))
  throwCauses([...causes, ...invalid], files)
  return manifests
}

async function parseAll(cli: Cli, paths: readonly string[], recursive: boolean) {
  const manifests: LocatedManifest[] = []
  const causes: Cause[] = []
  const files: string[] = []
  for (const path of paths.flatMap((given) => filesAt(cli.cwd, given, recursive))) {
    const file = path === '-' ? '<stdin>' : path
    const parsed = parseManifests(await contentOf(cli, path), file)
    files.push(file)
    manifests.push(...parsed.manifests)
    causes.push(...parsed.causes)
  }
  if (manifests.length + causes.length === 0) throw new CliError(`${paths.join(', ')} holds no manifest`)
  return { manifests, causes, files }
}

function throwCauses(causes: readonly Cause[], files: readonly string[]): void {
  if (causes.length === 0) return
  const lines = [...causes].sort(byPlace(files)).map(causeText)
  throw new CliError(
    causes.length === 1
      ? (lines[0] ?? '')
      : `${causes.length} problems, nothing was changed:\n${lines.map((line) => `  ${line}`).join('\n')}`,
  )
}

/** As a reader goes through the files: in the order in which they were read, from top to bottom. */
function byPlace(files: readonly string[]): (a: Cause, b: Cause) => number {
  const placeOf = ({ where = '' }: Cause) => {
    const colon = where.lastIndexOf(':')
    return { file: files.indexOf(where.slice(0, colon)), line: Number(where.slice(colon + 1)) }
  }
  return (a, b) => placeOf(a).file - placeOf(b).file || placeOf(a).line - placeOf(b).line
}

/** Files as they were named, so that errors name them alike. */
function filesAt(cwd: string, path: string, recursive: boolean): readonly string[] {
  if (path === '-' || isUrl(path)) return [path]
  const whole = resolve(cwd, path)
  const stat = statSync(whole, { throwIfNoEntry: false })
  if (stat === undefined) throw new CliError(`the path "${path}" does not exist`)
  if (!stat.isDirectory()) return [path]
  const entries = readdirSync(whole, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  const files = entries
    .filter((e) => e.isFile() && endings.some((ending) => e.name.endsWith(ending)))
    .map((e) => join(path, e.name))
  const below = recursive
    ? entries.filter((e) => e.isDirectory()).flatMap((e) => filesAt(cwd, join(path, e.name), true))
    : []
  if (files.length + below.length === 0 && !recursive)
    throw new CliError(
      `error reading [${path}]: recognized file extensions are [${endings.join(' ')}]; -R reads the folders below, too`,
    )
  return [...files, ...below]
}

async function contentOf(cli: Cli, file: string): Promise<Uint8Array> {
  if (file === '-') return cli.terminal.readStdin()
  if (isUrl(file)) return (await import('./url.ts')).contentAt(cli, file)
  try {
    return readFileSync(resolve(cli.cwd, file))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CliError(`read ${file}: ${code === 'EACCES' ? 'permission denied' : messageOf(error)}`)
  }
}
