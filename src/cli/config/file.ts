/**
 * The config file: named contexts (a server, how to be known to it, a namespace) and which of them is the current one.
 * Fields that this program does not know are kept.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { messageOf } from '../../lib/errors.ts'
import { lateYaml } from '../../lib/lateyaml.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'

export interface Context {
  readonly name: string
  /** `HOST:PORT`; absent: this machine's. */
  readonly server?: string
  readonly namespace?: string
  readonly [credential: string]: unknown
}

export interface Config {
  readonly currentContext?: string
  readonly contexts: readonly Context[]
  readonly [unknown: string]: unknown
}

export const CONFIG_VERSION = 'mctl.dev/config/v1'

type Env = Cli['env']

/**
 * `MCTL_CONFIG`; else the admin's file of the cluster whose folder `MCTL_DATA_DIR` names; else the user's own.
 * undefined when the environment tells of no home.
 */
export function configPath(env: Env): string | undefined {
  if (env['MCTL_CONFIG']) return env['MCTL_CONFIG']
  const admin = env['MCTL_DATA_DIR'] ? join(env['MCTL_DATA_DIR'], 'admin.yaml') : undefined
  if (admin !== undefined && existsSync(admin)) return admin
  if (env['MCTL_HOME']) return join(env['MCTL_HOME'], 'config.yaml')
  const folder = env['XDG_CONFIG_HOME'] || (env['HOME'] ? join(env['HOME'], '.config') : undefined)
  return folder === undefined ? undefined : join(folder, 'mctl', 'config.yaml')
}

/** As a command that writes it needs it. */
export function requiredConfigPath(env: Env): string {
  const path = configPath(env)
  if (path === undefined)
    throw new CliError('there is no home directory to keep the config file in: set MCTL_CONFIG to a file')
  return path
}

/** A missing file is an empty one; a broken one is an error that names it. */
export function readConfig(path: string | undefined): Config {
  if (path === undefined || !existsSync(path)) return { contexts: [] }
  const broken = (why: string) =>
    new CliError(
      `error loading config file "${path}": ${why}\nMend it, or move it away and begin with \`mctl config set-context NAME --server HOST:PORT\`.`,
    )
  let content: unknown
  try {
    content = lateYaml().parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw broken((messageOf(error).split('\n')[0] ?? '').replace(/:$/, ''))
  }
  if (content === null) return { contexts: [] }
  if (!isMap(content)) throw broken('must be a map with contexts')
  const { contexts = [], currentContext } = content
  if (!Array.isArray(contexts) || !contexts.every(isContext))
    throw broken('contexts must be a list of maps with a name')
  if (currentContext !== undefined && typeof currentContext !== 'string') throw broken('currentContext must be a name')
  const texts = contexts.flatMap(({ name, server, namespace }) => [
    ['server', server, name],
    ['namespace', namespace, name],
  ])
  for (const [field, value, name] of texts)
    if (value !== undefined && typeof value !== 'string')
      throw broken(`${String(field)} of context "${String(name)}" must be a text`)
  return { ...content, contexts }
}

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isContext = (value: unknown): value is Context =>
  isMap(value) && typeof value['name'] === 'string' && value['name'] !== ''

/** Whole or not at all, and for the user's eyes only: it may hold credentials. */
export function writeConfig(path: string, config: Config): void {
  const { contexts, currentContext, ...others } = config
  const written = {
    apiVersion: CONFIG_VERSION,
    kind: 'Config',
    ...others,
    ...(currentContext === undefined ? {} : { currentContext }),
    contexts,
  }
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const fresh = `${path}.new`
    writeFileSync(fresh, lateYaml().stringify(written, { lineWidth: 0 }), { mode: 0o600 })
    renameSync(fresh, path)
  } catch (error) {
    throw new CliError(`write config file "${path}": ${messageOf(error)}`)
  }
}

export const contextNamed = (config: Config, name: string): Context | undefined =>
  config.contexts.find((context) => context.name === name)
