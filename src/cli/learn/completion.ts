/**
 * `mctl completion zsh|bash|fish`: a small script that asks the program itself (`mctl complete-words`) what may come next,
 * so that names of objects are completed, too. (@bomb.sh/tab does the like; at 0.0.x it is not settled enough to stand on.)
 */
import type { Define } from '../commandform.ts'
import { examples } from '../commandform.ts'
import { CliError } from '../context.ts'

const bash = `# mctl completion for bash: put  source <(mctl completion bash)  into ~/.bashrc
_mctl() {
  local IFS=$'\\n' cur="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(mctl complete-words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
  if [ "\${#COMPREPLY[@]}" -eq 1 ] && [ "\${COMPREPLY[0]}" = ":files" ]; then
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _mctl mctl
`

const zsh = `#compdef mctl
# mctl completion for zsh: put  source <(mctl completion zsh)  into ~/.zshrc, after compinit
_mctl() {
  local -a found
  found=("\${(@f)$(mctl complete-words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ "\${found[1]}" == ":files" ]]; then _files; return; fi
  local -a shown
  local one
  for one in "\${found[@]}"; do
    [[ -n "$one" ]] && shown+=("\${\${one%%$'\\t'*}//:/\\\\:}:\${one#*$'\\t'}")
  done
  _describe mctl shown
}
compdef _mctl mctl
`

const fish = `# mctl completion for fish: put  mctl completion fish | source  into ~/.config/fish/config.fish
function __mctl_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found (mctl complete-words -- $words[2..-1] 2>/dev/null)
  if test "$found[1]" = ":files"
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $found
  end
end
complete -c mctl -f -a '(__mctl_complete)'
`

const scripts: Readonly<Record<string, string>> = { bash, zsh, fish }

export const defineCompletion: Define = (command, cli, done) => {
  command
    .argument('<shell>')
    .usage('(bash | zsh | fish)')
    .addHelpText('after', examples('mctl completion zsh', 'mctl completion bash', 'mctl completion fish'))
    .action((shell: string) => {
      const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined
      if (script === undefined) throw new CliError(`unsupported shell type "${shell}"; there are bash, zsh and fish`)
      cli.terminal.out(script)
      done(0)
    })
}
