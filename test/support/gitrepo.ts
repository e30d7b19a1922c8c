/** Real git repositories for tests: a working copy with `main`, and what people do to it. Dates and names are fixed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { RunGit } from '../../src/gitops/git.ts'
import { gitArguments, gitEnvironment } from '../../src/gitops/git.ts'
import type { SourceReader } from '../../src/gitops/reader.ts'
import { createReader, prepareFolder } from '../../src/gitops/reader.ts'
import type { Clock } from '../../src/lib/clock.ts'

const author = { name: 'Ada', email: 'ada@example.org' }

export class GitRepo {
  readonly dir: string
  #minutes = 0

  /** `dir` is made, with an empty first commit. */
  constructor(dir: string) {
    this.dir = dir
    mkdirSync(dir, { recursive: true })
    this.git('init', '--quiet', '--initial-branch=main')
    this.git('commit', '--quiet', '--allow-empty', '-m', 'Begin')
  }

  get url(): string {
    return `file://${this.dir}`
  }

  get head(): string {
    return this.git('rev-parse', 'HEAD')
  }

  git(...args: string[]): string {
    // One minute later each time, so that no two commits are the same.
    const date = `2026-01-01T00:${String(this.#minutes++ % 60).padStart(2, '0')}:00Z`
    const settings = ['-c', 'core.hooksPath=/dev/null', '-c', 'commit.gpgsign=false', '-c', 'gc.auto=0']
    return execFileSync('git', [...settings, ...args], {
      cwd: this.dir,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: '/nonexistent',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_AUTHOR_NAME: author.name,
        GIT_AUTHOR_EMAIL: author.email,
        GIT_COMMITTER_NAME: author.name,
        GIT_COMMITTER_EMAIL: author.email,
        GIT_AUTHOR_DATE: date,
        GIT_COMMITTER_DATE: date,
      },
    }).trim()
  }

  write(path: string, text: string): void {
    const file = join(this.dir, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }

  remove(path: string): void {
    rmSync(join(this.dir, path), { recursive: true })
  }

  rename(from: string, to: string): void {
    renameSync(join(this.dir, from), join(this.dir, to))
  }

  /** Commits everything that lies in the working copy; answers the commit. */
  commit(message: string): string {
    this.git('add', '--all')
    this.git('commit', '--quiet', '--allow-empty', '-m', message)
    return this.head
  }

  /** Writes the files and commits them. */
  put(files: Readonly<Record<string, string>>, message = 'Change'): string {
    for (const [path, text] of Object.entries(files)) this.write(path, text)
    return this.commit(message)
  }
}

/** A reader whose git takes no time: the same git with the same arguments, waited for where played time stands still. */
export function playedReader(dataDir: string, clock: Clock): SourceReader {
  const { home } = prepareFolder(dataDir)
  const plain = gitEnvironment({ env: { PATH: process.env['PATH'] ?? '' }, home })
  const git: RunGit = (call) => {
    const { args, env, input = '' } = call
    const ran = spawnSync('git', gitArguments({ args }), { env: { ...plain, ...env }, cwd: home, input })
    return Promise.resolve({ code: ran.status ?? -1, stdout: ran.stdout, stderr: ran.stderr.toString() })
  }
  return createReader({ dataDir, clock, git })
}

/** A deployment as people write it, of the model of the test clusters. */
export const deploymentYaml = (name: string, spec: Readonly<Record<string, unknown>> = {}, metadata = ''): string =>
  [
    'apiVersion: mctl.dev/v1alpha1',
    'kind: ModelDeployment',
    `metadata: { name: ${name}${metadata} }`,
    `spec: ${JSON.stringify({ model: { name: 'tiny' }, engine: { name: 'fake' }, ...spec })}`,
    '',
  ].join('\n')
