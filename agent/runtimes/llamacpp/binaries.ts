/**
 * Where llama.cpp's programs are on this machine: the folder that somebody named, else the one that `npm run setup`
 * made, else the PATH. Both from one folder: leader and workers must be of one build.
 */
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'

export interface LlamaCppOptions {
  /** Holds engines/llamacpp.json, which `npm run setup -- --llamacpp` writes. */
  readonly userDataDir: string
  readonly platform: NodeJS.Platform
  /** MCTL_LLAMACPP_DIR: taken, or found wanting; never passed over. */
  readonly folder?: string
  /** PATH. */
  readonly searchPath?: string
}

export interface Binaries {
  readonly server: string
  /** Absent: a build without RPC, or one that was not unpacked whole. */
  readonly rpcServer?: string
}

export type FoundBinaries =
  { readonly kind: 'Found'; readonly binaries: Binaries } | { readonly kind: 'Missing'; readonly remedy: string }

/** rpc-server is its name before 2026. */
const RPC_NAMES = ['ggml-rpc-server', 'rpc-server']
/** As archives and builds have them. */
const SUBFOLDERS = ['', 'bin', join('build', 'bin')]

export const setupFile = (userDataDir: string): string => join(userDataDir, 'engines', 'llamacpp.json')

export function findBinaries(options: LlamaCppOptions): FoundBinaries {
  const { folder, userDataDir, searchPath = '' } = options
  if (folder !== undefined) {
    const named = SUBFOLDERS.map((sub) => binariesIn(join(folder, sub))).find((found) => found !== undefined)
    if (named !== undefined) return { kind: 'Found', binaries: named }
    return { kind: 'Missing', remedy: `MCTL_LLAMACPP_DIR names ${folder}, and no llama-server is there` }
  }
  const made = folderOfSetup(userDataDir)
  const folders = [...(made === undefined ? [] : [made]), ...searchPath.split(delimiter).filter(isAbsolute)]
  const found = folders.map(binariesIn).find((binaries) => binaries !== undefined)
  return found === undefined ? { kind: 'Missing', remedy: remedyOf(options) } : { kind: 'Found', binaries: found }
}

function binariesIn(folder: string): Binaries | undefined {
  const server = join(folder, 'llama-server')
  if (!isProgram(server)) return undefined
  const rpcServer = RPC_NAMES.map((name) => join(folder, name)).find(isProgram)
  return { server, ...(rpcServer === undefined ? {} : { rpcServer }) }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

function folderOfSetup(userDataDir: string): string | undefined {
  try {
    const { dir } = JSON.parse(readFileSync(setupFile(userDataDir), 'utf8')) as { dir?: unknown }
    return typeof dir === 'string' ? dir : undefined
  } catch {
    return undefined
  }
}

function remedyOf({ platform }: LlamaCppOptions): string {
  if (platform !== 'darwin') return 'llama.cpp is not installed: run npm run setup -- --llamacpp in the mctl checkout'
  return (
    'llama.cpp is not installed: unpack llama-<tag>-bin-macos-arm64.tar.gz of github.com/ggml-org/llama.cpp/releases ' +
    'and name its folder in MCTL_LLAMACPP_DIR (Homebrew builds it without RPC: it serves, but not over several Macs)'
  )
}
